"""What docs/supported.md and docs/faq.md state: versions, and the changes that can be detected."""

import re
import tomllib
from collections.abc import Callable, Mapping

from benchmarks.docs.tables import text_of
from benchmarks.origin import ROOT
from moored.measurement.statistics.comparison import smallest_detectable_difference

PROMPTS = (20, 50, 100, 300, 1000)
DISAGREEING = (0.05, 0.1, 0.2, 0.3)
PACKAGES = ("torch", "transformers", "trl", "peft", "accelerate", "datasets")


def versions() -> str:
    """Returns the floors of pyproject.toml beside the pins that the tests run with."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    floors = dict(requirement.split(">=") for requirement in project["dependencies"])
    pinned = (ROOT / "requirements/run.txt").read_text(encoding="utf-8")
    pins = dict(re.findall(r"^([\w-]+)==([\d.]+)", pinned, re.MULTILINE))
    python = ["Python", project["requires-python"].removeprefix(">="), "3.11"]
    rows = [python, *([name, floors[name], pins[name]] for name in PACKAGES)]
    return text_of(["package", "at least", "tested with"], rows)


def detectable() -> str:
    """Returns the smallest difference that a number of prompts detects, by the share that two models disagree about."""
    head = ["prompts", *(f"{100 * share:.0f} % disagree" for share in DISAGREEING)]
    rows = [[n, *(_points(smallest_detectable_difference(n, share)) for share in DISAGREEING)] for n in PROMPTS]
    return text_of(head, rows)


def _points(difference: float | None) -> str:
    return "–" if difference is None else f"{100 * difference:.0f}"


SUPPORTED: Mapping[str, Callable[[], str]] = {"versions": versions}
QUESTIONS: Mapping[str, Callable[[], str]] = {"detectable": detectable}
"""By their places in the two pages."""
