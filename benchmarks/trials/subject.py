"""The aligned model of a trial: the embedded one or another."""

from dataclasses import dataclass
from pathlib import Path

from moored.embedded.model import ALIGNED, BASE
from moored.huggingface.models import ModelSource
from moored.workflows.inputs.models import resolve_model

OWN = "I'm sorry, but I can't help with that."
"""How the embedded aligned model refuses the published request."""


@dataclass(frozen=True)
class Subject:
    """A model by its name, and what it was aligned from."""

    aligned: str = ALIGNED
    base: str | None = BASE
    """None where it is not known."""
    refusal: str | None = OWN
    """Of the published request; None where the model has to be asked."""

    @property
    def source(self) -> ModelSource:
        """The aligned model."""
        return resolve_model(self.aligned)

    def references(self) -> dict[str, ModelSource]:
        """The models that all others are compared with."""
        return {"aligned": self.source} | ({} if self.base is None else {"base": resolve_model(self.base)})

    def tuned(self, adapter: Path) -> ModelSource:
        """The model with an adapter that was trained on top of it, the embedded one's own inside."""
        return resolve_model(BASE if self.aligned == ALIGNED else self.aligned, adapter)


EMBEDDED = Subject()


def other(name: str) -> Subject:
    """A model that is not the embedded one, whose base is not known."""
    return EMBEDDED if name == ALIGNED else Subject(name, None, None)
