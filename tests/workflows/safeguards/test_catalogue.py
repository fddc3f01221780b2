from dataclasses import fields

import pytest

from moored.errors import InputError
from moored.selection import RULES
from moored.workflows.safeguards.catalogue import SAFEGUARDS, describe_safeguards


@pytest.mark.parametrize("name", SAFEGUARDS)
def test_every_key_of_a_training_file_is_described(name):
    (told,) = describe_safeguards(name)
    assert [key.name for key in told.keys] == [field.name for field in fields(SAFEGUARDS[name]) if field.init]
    assert not {"name", "needs"} & {key.name for key in told.keys}
    assert all(key.meaning and key.values for key in told.keys) and len(told.about) > 20
    for text in (told.about, *(key.meaning for key in told.keys)):
        assert "`" not in text and "\n" not in text and "Args:" not in text


def test_values_and_defaults_are_those_of_a_training_file():
    told = {each.name: {key.name: key for key in each.keys} for each in describe_safeguards()}
    assert [*told] == [*SAFEGUARDS]
    strength = told["update_norm"]["strength"]
    assert strength.values == "a number or auto" and strength.default is None
    direction = told["alignment_direction"]
    assert (direction["base"].default, direction["scaled"].default) == ("null", "false")
    assert direction["form"].values == "published, projector, flattened"
    selection = told["gradient_selection"]
    assert (selection["keep"].default, selection["seed"].default) == ("0.2", "0")
    assert all(rule in selection["rule"].meaning for rule in RULES)


def test_an_unknown_name_is_one_sentence():
    with pytest.raises(InputError, match="unknown safeguard l3; it may be one of alignment_direction"):
        describe_safeguards("l3")
