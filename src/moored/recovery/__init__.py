"""After training: one file for each repair of a fine-tuned model, and for each way to choose its example."""

from moored.recovery._interface import Repair, RepairedUpdate, UpdateRepair
from moored.recovery._steps import Steps
from moored.recovery.bilevel import BilevelChoice
from moored.recovery.halving import Round, Standing, halve, schedule
from moored.recovery.linear_pull import LinearPull
from moored.recovery.one_shot import PUBLISHED_PROMPT, PUBLISHED_REFUSAL, OneShot
from moored.recovery.safe_lora import SafeLora

REPAIRS = {"one_shot": OneShot, "safe_lora": SafeLora, "linear_pull": LinearPull}

__all__ = [
    "PUBLISHED_PROMPT",
    "PUBLISHED_REFUSAL",
    "REPAIRS",
    "BilevelChoice",
    "LinearPull",
    "OneShot",
    "Repair",
    "RepairedUpdate",
    "Round",
    "SafeLora",
    "Standing",
    "Steps",
    "UpdateRepair",
    "halve",
    "schedule",
]
