import json
from dataclasses import asdict, replace

import pytest
from rich.console import Console

from moored.errors import InputError
from moored.regularizers import HarmfulDirection, UpdateNorm
from moored.workflows.train.auto_strength import COARSE, FINE, STEPS, Outcome, bargain, knee, search

START, PLAIN = Outcome(4.0, 3.0, 0.0), Outcome(0.0, 2.0, 0.5)


def test_the_bargain_is_in_shares_of_drift_and_of_learning():
    assert bargain(START, PLAIN, PLAIN) == (0.0, 0.0)
    assert bargain(START, PLAIN, START) == (1.0, 1.0)
    assert bargain(START, PLAIN, Outcome(3.0, 2.1, 0.0)) == pytest.approx((0.75, 0.1))


def test_the_knee_undoes_most_for_what_it_gives_up():
    trials = {0.1: Outcome(1.0, 2.0, 0.0), 1.0: Outcome(3.0, 2.1, 0.0), 10.0: Outcome(4.0, 2.9, 0.0)}
    assert knee(START, PLAIN, trials) == 1.0
    # Of two that are equally good, the weaker.
    assert knee(START, PLAIN, {2.0: Outcome(3.0, 2.1, 0.0), 1.0: Outcome(3.0, 2.1, 0.0)}) == 1.0


def test_to_refuse_more_than_the_start_is_no_gain():
    assert knee(START, PLAIN, {1.0: Outcome(3.8, 2.05, 0.0), 10.0: Outcome(9.0, 2.9, 0.0)}) == 1.0


def test_a_run_that_came_to_no_number_is_not_chosen():
    lost = Outcome(float("nan"), float("nan"), 0.0)
    assert knee(START, PLAIN, {0.5: lost, 1.0: Outcome(3.8, 2.05, 0.0), 2.0: lost}) == 1.0


def test_what_cannot_be_searched_is_refused():
    with pytest.raises(InputError, match="auto and relative: true"):
        search(lambda *_: (START, PLAIN), [UpdateNorm(strength=1.0, relative=True)], "update_norm", None)
    with pytest.raises(InputError, match="update_norm at 0 after a plain run"):
        search(lambda *_: (START, replace(PLAIN, penalty=0.0)), [UpdateNorm(strength=1.0)], "update_norm", None)


NO_NUMBER = Outcome(float("nan"), float("nan"), 0.5)


@pytest.mark.parametrize("plain", [Outcome(4.5, 2.0, 0.5), Outcome(0.0, 3.5, 0.5), NO_NUMBER])
def test_without_drift_or_learning_there_is_nothing_to_weigh(plain):
    with pytest.raises(InputError, match=f"nothing to weigh: within {STEPS} steps"):
        knee(START, plain, {1.0: plain})


def test_the_search_tries_multiples_of_the_strength_at_which_penalty_and_loss_are_equal():
    other, asked = HarmfulDirection(strength=7.0), []

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
    best = max(found.trials, key=lambda trial: trial.undone - trial.given_up)
    assert found.strength == best.strength == pytest.approx(4.0)
    told = console.export_text()
    assert "update_norm, strength: auto: 7 short runs of 30 steps" in told and "chosen: 4" in told
    json.dumps(asdict(found))


def test_a_strength_that_diverges_is_left_out_and_recorded_as_null():
    def run(safeguards, name):
        strength = safeguards[0].strength
        return START, NO_NUMBER if strength > 4 else Outcome(2 * min(strength, 1.0), 2.0, 0.5)

    found = search(run, [UpdateNorm(strength=1.0)], "update_norm", None)
    assert found.strength <= 4 and any(trial.undone is None for trial in found.trials)
    json.dumps(asdict(found), allow_nan=False)


def test_a_strength_that_gives_up_more_than_it_undoes_is_not_chosen():
    def run(safeguards, name):
        return START, PLAIN if safeguards[0].strength < 1e-6 else Outcome(0.4, 2.5, 0.1)

    with pytest.raises(InputError, match=r"that pays: the best, .* undoes 10% of the drift and gives up 50% of the"):
        search(run, [UpdateNorm(strength=1.0)], "update_norm", None)
