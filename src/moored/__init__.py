"""moored keeps a language model's safety alignment moored while people fine-tune it.

Importing the package is cheap and imports no part of Hugging Face: names are looked up when they are used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from moored.embedded.refusal_judge import RefusalJudge as RefusalJudge
    from moored.recovery import LinearPull as LinearPull
    from moored.recovery import OneShot as OneShot
    from moored.recovery import SafeLora as SafeLora
    from moored.regularizers import AlignmentDirection as AlignmentDirection
    from moored.regularizers import HarmfulDirection as HarmfulDirection
    from moored.regularizers import SafetyTokens as SafetyTokens
    from moored.regularizers import UpdateNorm as UpdateNorm
    from moored.selection import GradientSelection as GradientSelection
    from moored.workflows.inputs.load import load as load
    from moored.workflows.inspect.basin import inspect_basin as inspect_basin
    from moored.workflows.inspect.gradients import inspect_gradients as inspect_gradients
    from moored.workflows.inspect.spectrum import inspect_spectrum as inspect_spectrum
    from moored.workflows.judge.run import judge_answers as judge_answers
    from moored.workflows.measure.run import measure as measure
    from moored.workflows.recover.run import recover as recover
    from moored.workflows.safeguards.examples import harmful_examples as harmful_examples
    from moored.workflows.safeguards.tokens import find_safety_tokens as find_safety_tokens
    from moored.workflows.select.run import select as select
    from moored.workflows.train.run import train as train

__version__ = "0.1.0"

_HOME = {
    "AlignmentDirection": "moored.regularizers",
    "GradientSelection": "moored.selection",
    "HarmfulDirection": "moored.regularizers",
    "LinearPull": "moored.recovery",
    "OneShot": "moored.recovery",
    "RefusalJudge": "moored.embedded.refusal_judge",
    "SafeLora": "moored.recovery",
    "SafetyTokens": "moored.regularizers",
    "UpdateNorm": "moored.regularizers",
    "find_safety_tokens": "moored.workflows.safeguards.tokens",
    "harmful_examples": "moored.workflows.safeguards.examples",
    "inspect_basin": "moored.workflows.inspect.basin",
    "inspect_gradients": "moored.workflows.inspect.gradients",
    "inspect_spectrum": "moored.workflows.inspect.spectrum",
    "judge_answers": "moored.workflows.judge.run",
    "load": "moored.workflows.inputs.load",
    "measure": "moored.workflows.measure.run",
    "recover": "moored.workflows.recover.run",
    "select": "moored.workflows.select.run",
    "train": "moored.workflows.train.run",
}

__all__ = [
    "AlignmentDirection",
    "GradientSelection",
    "HarmfulDirection",
    "LinearPull",
    "OneShot",
    "RefusalJudge",
    "SafeLora",
    "SafetyTokens",
    "UpdateNorm",
    "__version__",
    "find_safety_tokens",
    "harmful_examples",
    "inspect_basin",
    "inspect_gradients",
    "inspect_spectrum",
    "judge_answers",
    "load",
    "measure",
    "recover",
    "select",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'moored' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return __all__
