"""The reference of a token penalty: the logits of the start weights, from one more pass or from a cache."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from moored.huggingface.safeguards.cached_logits import cached_logits
from moored.huggingface.safeguards.guarded_logits import SalientHead
from moored.huggingface.safeguards.interface import Batch
from moored.huggingface.safeguards.start_logits import ReferenceLogits, StartLogits, StartWeights
from moored.huggingface.safeguards.trainer_access import TrainingRows


class StartReference:
    """The logits of the weights that a model has when this is made.

    Args:
        safeguard: the user's settings.
        model: the model that is trained.
        head: the output head of the guarded tokens.
        training_rows: opens the training set, for a cache.
    """

    def __init__(
        self,
        safeguard: Any,
        model: nn.Module,
        head: SalientHead,
        training_rows: Callable[[], AbstractContextManager[TrainingRows]] | None,
    ) -> None:
        self.is_cached = safeguard.reference == "cache"
        self._folder, self._folder_existed = safeguard.cache, False
        self._training_rows = training_rows
        # A cache is written when the training begins, but from the weights of this moment, as all anchors are.
        self._start: StartLogits | None = StartLogits(model, head, first=safeguard.first, start=StartWeights(model))
        self._logits: ReferenceLogits | None = None if self.is_cached else self._start

    def open(self) -> None:
        """Writes or opens the cache, if there is to be one, and frees the start weights."""
        if self._logits is not None or self._training_rows is None or self._start is None:
            return
        self._folder_existed = self._folder is not None and Path(self._folder).exists()
        with self._training_rows() as rows:
            self._logits = cached_logits(rows.batches, self._start, self._folder, advance=rows.advance)
        self._start = None

    def of(self, batch: Batch) -> Float[Tensor, "position token"]:
        """Returns the logits at a batch's guarded positions."""
        assert self._logits is not None
        return self._logits.of(batch)

    def describe(self) -> str:
        """Says where the logits come from."""
        if not self.is_cached:
            return "a pass with the first weights"
        if self._folder is None:
            return "logits computed beforehand"
        return f"logits {'found' if self._folder_existed else 'written'} in {self._folder}"
