from dataclasses import MISSING, fields
from typing import Literal

import pytest
from peft import LoraConfig
from trl.trainer.sft_config import SFTConfig

from moored.errors import InputError
from moored.regularizers import HarmfulDirection, SafetyTokens
from moored.settings import in_words, typed


@pytest.mark.parametrize("cls", [SFTConfig, LoraConfig])
def test_the_defaults_of_every_setting_have_the_type_that_it_states(cls):
    declared = {field.name: field for field in fields(cls) if field.init}
    defaults = {
        name: field.default if field.default_factory is MISSING else field.default_factory()
        for name, field in declared.items()
    }
    assert typed(defaults, cls) == defaults


def test_values_of_yaml_and_of_a_command_line_get_their_types():
    stated = {"learning_rate": "1e-4", "num_train_epochs": 2, "max_length": None, "packing": "true", "seed": "7"}
    assert typed(stated, SFTConfig) == {
        "learning_rate": 1e-4, "num_train_epochs": 2.0, "max_length": None, "packing": True, "seed": 7,
    }  # fmt: skip
    assert typed({"report_to": "none"}, SFTConfig) == {"report_to": "none"}
    assert typed({"report_to": ["wandb", "trackio"]}, SFTConfig) == {"report_to": ["wandb", "trackio"]}


@pytest.mark.parametrize(
    ("stated", "sentence"),
    [
        ({"learning_rate": "fast"}, "learning_rate is 'fast', but it must be a number"),
        ({"max_length": "long"}, "max_length is 'long', but it must be a whole number or null"),
        ({"packing": "perhaps"}, "packing is 'perhaps', but it must be true or false"),
        ({"seed": True}, "seed is True, but it must be a whole number"),
        ({"max_steps": None}, "max_steps is None, but it must be a whole number"),
        ({"gradient_acumulation_steps": 2}, "did you mean gradient_accumulation_steps?"),
    ],
)
def test_a_wrong_value_is_one_sentence(stated, sentence):
    with pytest.raises(InputError, match=sentence.replace("?", r"\?")):
        typed(stated, SFTConfig)


def test_pairs_of_a_list_are_those_of_yaml():
    pairs = typed({"examples": [["How?", "Sure:"], ["What?", "Yes:"]]}, HarmfulDirection)
    assert pairs == {"examples": [("How?", "Sure:"), ("What?", "Yes:")]}
    for wrong in ([["How?"]], [["How?", "Sure:", "more"]], ["How?"], [3], [["How?", 3]], "pairs.jsonl"):
        with pytest.raises(InputError, match="examples is"):
            typed({"examples": wrong}, HarmfulDirection)


@pytest.mark.parametrize(
    ("hint", "words"),
    [
        (float | None, "a number or null"),
        (list[dict], "a list of mappings"),
        (tuple[str, ...] | list[str] | str | None, "a list of texts or a text or null"),
        (list[tuple[str, str]], "a list of pairs of texts"),
        (dict[str, int], "a mapping"),
        (Literal["one", "two"], "one, two"),
    ],
)
def test_types_are_told_in_words(hint, words):
    assert in_words(hint) == words


def test_a_long_value_is_cut():
    with pytest.raises(
        InputError, match=r"tokens is \[.*\.\.\.\], but it must be a list of texts or a text or null"
    ) as caught:
        typed({"tokens": [1] * 500}, SafetyTokens)
    assert len(str(caught.value)) < 200
