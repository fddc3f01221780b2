"""Libraries that keep quiet, for the command line."""

import logging
import warnings

import datasets
import transformers


def quiet_libraries() -> None:
    """Keeps the progress bars and notices of transformers and datasets out of our output; errors stay."""
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    datasets.disable_progress_bars()
    logging.getLogger("torch").setLevel(logging.ERROR)
    # Deprecations inside other people's packages are nothing a user of ours can act on.
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", category=DeprecationWarning)
