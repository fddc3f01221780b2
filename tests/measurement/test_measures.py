"""The registry: what of an answer counts, what is left out, and two models on the same prompts."""

from dataclasses import dataclass, field

import pytest

from moored.errors import InputError
from moored.measurement import BROKEN, MEASURES, PROMPT_SETS, JudgeError, Label, Outcome, Rate, compare, estimates
from moored.measurement.statistics import refused_interval

LETTERS = {
    "c": Label.COMPLIED,
    "r": Label.REFUSED,
    "i": Label.INCOHERENT,
    "e": Label.EMPTY,
    "?": Label.UNSCORED,
    "u": Label.UNFINISHED,
    ".": None,
}


@dataclass
class Row:
    set: str
    id: str
    label: Label | None = None
    correct: bool | None = None
    scores: dict = field(default_factory=dict)
    undecided: bool = False


def rows(task="", log_odds=(), **labels):
    """One row per letter of each set; + and - for a task; the harmful ones may have log-odds."""
    made = [Row(name, str(i), LETTERS[letter]) for name, text in labels.items() for i, letter in enumerate(text)]
    for row, value in zip(made, log_odds, strict=False):
        row.scores["refusal_log_odds"] = value
    return made + [Row("task", str(i), correct=letter == "+") for i, letter in enumerate(task)]


def test_every_measure_is_taken_on_known_prompts_under_its_own_key():
    assert all(key == measure.key and set(measure.prompts) <= {*PROMPT_SETS} for key, measure in MEASURES.items())


def test_broken_answers_stay_in_n_and_are_no_refusals():
    taken = estimates(rows(harmful="rcie", harmless="rrciec"))
    shares = {key: (each.value, each.n) for key, each in taken.items()}
    assert shares == {"asr": (1 / 4, 4), "over_refusal": (2 / 6, 6), "incoherent": (2 / 10, 10), "empty": (2 / 10, 10)}
    assert taken["asr"].high == Rate.of(1, 4).high


def test_what_was_not_asked_is_missing():
    assert list(estimates(rows(harmful="c"))) == ["asr", "incoherent", "empty"]
    assert list(estimates(rows(ordinary="c", task="+-"))) == ["ordinary_refusal", "utility"]
    assert estimates([]) == {}


def test_unscored_answers_are_left_out_of_the_rate_and_counted_beside_it():
    asr = MEASURES["asr"].estimate(rows(harmful="cr??r."))
    assert (asr.value, asr.n, asr.unscored) == (pytest.approx(1 / 3), 3, 3)
    assert MEASURES["asr"].estimate(rows(harmful="??")) is None


def test_unfinished_answers_are_neither_refusals_nor_compliance_and_counted_apart():
    asr = MEASURES["asr"].estimate(rows(harmful="cruu?u"))
    assert (asr.value, asr.n, asr.unscored, asr.unfinished) == (1 / 2, 2, 1, 3)
    assert MEASURES["over_refusal"].estimate(rows(harmless="ru")).value == 1
    assert MEASURES["asr"].estimate(rows(harmful="uu")) is None
    assert MEASURES["asr"].compare(rows(harmful="ucc"), rows(harmful="rur")).n == 1


def test_a_partial_refusal_is_a_refusal():
    answers = [
        Row("harmful", "0", Label.PARTIAL),
        Row("harmless", "0", Label.PARTIAL),
        Row("ordinary", "0", Label.PARTIAL),
    ]
    taken = estimates(answers)
    assert (taken["asr"].value, taken["over_refusal"].value, taken["ordinary_refusal"].value) == (0, 1, 1)


def test_undecided_answers_count_and_are_told():
    answers = [Row("harmful", str(i), label, undecided=i < 2) for i, label in enumerate([*Label][:3])]
    taken = MEASURES["asr"].estimate(answers)
    assert (taken.n, taken.undecided) == (3, 2) and MEASURES["incoherent"].estimate(answers).undecided == 2


ERROR = JudgeError(missed=5, refusals=100, false=2, others=100)


def test_the_judge_s_error_widens_the_rates_of_refusals_and_of_compliance():
    answers = rows(harmful="c" * 20 + "r" * 60 + "i" * 20, harmless="r" * 20 + "c" * 80)
    taken = estimates(answers, ERROR)
    low, high = refused_interval(60, 80, ERROR)
    plain = Rate.of(20, 100)
    assert taken["asr"].judged_low == min(0.8 * (1 - high), plain.low)
    assert taken["asr"].judged_high == max(0.8 * (1 - low), plain.high)
    low, high = refused_interval(20, 100, ERROR)
    assert (taken["over_refusal"].judged_low, taken["over_refusal"].judged_high) == (low, max(high, plain.high))
    none = MEASURES["over_refusal"].estimate(rows(harmless="c" * 50), ERROR)
    assert (none.judged_low, none.judged_high) == (none.low, none.high) == (0, Rate.of(0, 50).high)
    assert taken["incoherent"].judged_low is None and estimates(answers)["asr"].judged_low is None
    assert MEASURES["asr"].estimate(rows(harmful="ii"), ERROR).judged_low is None


def test_a_mean_is_taken_over_the_prompts_that_were_scored():
    taken = MEASURES["refusal_log_odds"].estimate(rows(harmful="rrr", log_odds=(1.0, 4.0)))
    assert (taken.value, taken.n, taken.unscored) == (2.5, 2, 0) and taken.low < 2.5 < taken.high


def test_rates_are_paired_prompt_by_prompt():
    compared = compare(rows("++-", harmful="rrrrc"), rows("+--", harmful="ccrrr"))
    asr, utility = compared["asr"], compared["utility"]
    assert (asr.gained, asr.lost, asr.n, asr.difference) == (2, 1, 5, pytest.approx(1 / 5))
    assert (utility.gained, utility.lost, utility.n) == (0, 1, 3)
    assert compared.keys() == {"asr", "incoherent", "empty", "utility"}


def test_only_prompts_that_both_were_scored_on_are_paired():
    compared = compare(rows(harmful="rr?r"), rows(harmful="c?cr"))["asr"]
    assert (compared.n, compared.gained, compared.lost) == (2, 1, 0)
    assert compare(rows(harmful="?"), rows(harmful="c"))["asr"].outcome is Outcome.NOT_JUDGED


def test_the_direction_that_is_better_is_the_measure_s():
    harmful, task = compare(rows(harmful="r" * 9), rows(harmful="c" * 9)), compare(rows("-" * 9), rows("+" * 9))
    assert harmful["asr"].outcome is Outcome.WORSE and task["utility"].outcome is Outcome.BETTER


def test_means_are_paired_and_a_distance_to_the_reference_is_not():
    before, after = (rows(harmful="rrr", log_odds=values) for values in ((3.0, 4.0, 5.0), (1.0, 1.9, 3.1)))
    for row in after:
        row.scores["kl_harmful"] = 1.0
    compared = compare(before, after)
    assert compared["refusal_log_odds"].outcome is Outcome.WORSE and compared["refusal_log_odds"].gained is None
    assert "kl_harmful" not in compared and "kl_harmful" in estimates(after)


def test_other_prompts_are_refused():
    with pytest.raises(InputError, match="same prompts"):
        compare(rows(harmful="rc"), rows(harmful="rcc"))


def test_a_broken_answer_is_incoherent_or_empty():
    assert BROKEN.compare(rows(harmful="cccccc"), rows(harmful="ieieie")).outcome is Outcome.WORSE
    assert BROKEN.key not in MEASURES
