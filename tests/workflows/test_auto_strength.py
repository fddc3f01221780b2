import json

import pytest
from rich.console import Console

from moored.errors import InputError
from moored.regularizers import UpdateNorm
from moored.workflows._auto_strength import COARSE, FINE, STEPS, Outcome, bargain, knee, search

START, PLAIN = Outcome(4.0, 3.0, 0.0), Outcome(0.0, 2.0, 0.5)


def test_the_bargain_is_in_shares_of_drift_and_of_learning():
    assert bargain(START, PLAIN, PLAIN) == (0.0, 0.0)
    assert bargain(START, PLAIN, START) == (1.0, 1.0)
    assert bargain(START, PLAIN, Outcome(3.0, 2.1, 0.0)) == pytest.approx((0.75, 0.1))


def test_the_knee_undoes_most_for_what_it_gives_up():
    trials = {0.1: Outcome(1.0, 2.0, 0), 1.0: Outcome(3.0, 2.1, 0), 10.0: Outcome(4.0, 2.9, 0)}
    assert knee(START, PLAIN, trials) == 1.0
    # Of two that are equally good, the weaker.
    assert knee(START, PLAIN, {2.0: Outcome(3.0, 2.1, 0), 1.0: Outcome(3.0, 2.1, 0)}) == 1.0


@pytest.mark.parametrize("plain", [Outcome(4.5, 2.0, 0.5), Outcome(0.0, 3.5, 0.5)])
def test_without_drift_or_learning_there_is_nothing_to_weigh(plain):
    with pytest.raises(InputError, match=f"nothing to weigh: within {STEPS} steps"):
        knee(START, plain, {1.0: plain})


def test_the_search_tries_multiples_of_the_strength_at_which_penalty_and_loss_are_equal():
    other, asked = UpdateNorm(strength=7.0, name="other"), []

    def run(safeguards, name):
        assert name == "update_norm" and safeguards[0] == other
        strength = safeguards[1].strength
        asked.append(strength)
        held = strength / (strength + 4.0)
        return START, Outcome(4 * held, 2 + held**4, 0.5 * (1 - held))

    console = Console(record=True, width=200)
    found = search(run, [other, UpdateNorm(strength=1.0)], "update_norm", console)
    # The plain loss of 2 over its penalty of 0.5 makes 4; that is also the best of the coarse ones.
    expected = [4 * factor for factor in (*COARSE, *FINE)]
    assert asked[1:] == pytest.approx(expected, rel=0.03) and 0 < asked[0] < 1e-6
    best = max(found["trials"], key=lambda trial: trial["undone"] - trial["given_up"])
    assert found["strength"] == best["strength"] == pytest.approx(4.0)
    told = console.export_text()
    assert "update_norm, strength: auto: 7 short runs of 30 steps" in told and "chosen: 4" in told
    json.dumps(found)
