import re

import pytest
from tests.regularizers.unchecked import remade

from moored.errors import InputError
from moored.regularizers import REGULARIZERS

NEEDED = {"alignment_direction": {"base": "base"}}


@pytest.mark.parametrize("strength", [-0.5, float("nan"), float("inf")])
@pytest.mark.parametrize("name", REGULARIZERS)
def test_a_strength_that_is_none_is_refused_where_it_is_stated(name, strength):
    with pytest.raises(InputError, match=f"strength of {name} is {strength}; give a number of 0 or more"):
        REGULARIZERS[name](strength=strength, **NEEDED.get(name, {}))


@pytest.mark.parametrize("name", REGULARIZERS)
def test_0_is_a_strength(name):
    assert REGULARIZERS[name](strength=0.0, **NEEDED.get(name, {})).strength == 0


@pytest.mark.parametrize(
    ("name", "settings", "sentence"),
    [
        (
            "alignment_direction",
            {"form": "flatened"},
            "form=...) must be one of published, projector, flattened, got fl",
        ),
        ("alignment_direction", {"direction": "Random"}, "direction=...) must be one of aligned, random, got Random"),
        ("alignment_direction", {"precision": "bf16"}, "precision=...) must be one of bfloat16, float32, got bf16"),
        ("harmful_direction", {"direction": "aligned"}, "direction=...) must be one of harmful, random, got aligned"),
    ],
)
def test_a_word_that_is_none_of_a_setting_is_no_other_one(name, settings, sentence):
    penalty = REGULARIZERS[name](strength=1.0, **NEEDED.get(name, {}))
    with pytest.raises(InputError, match=re.escape(sentence)):
        remade(penalty, **settings)
