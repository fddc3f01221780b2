import pytest

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
