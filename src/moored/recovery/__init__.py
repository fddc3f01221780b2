"""After training: one file per repair that turns a fine-tuned model's weights back towards safety."""

from moored.recovery._interface import Repair
from moored.recovery.one_shot import PUBLISHED_PROMPT, PUBLISHED_REFUSAL, OneShot

REPAIRS = {"one_shot": OneShot}

__all__ = ["PUBLISHED_PROMPT", "PUBLISHED_REFUSAL", "REPAIRS", "OneShot", "Repair"]
