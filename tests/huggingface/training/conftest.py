import gc

import pytest
import torch


@pytest.fixture(scope="session", autouse=True)
def light_runs():
    """A tiny run is a fraction of a second: more threads only wait for one another, and the trainer's own full
    garbage collection would take longer than the training."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()
    torch.set_num_threads(threads)
