import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from moored.errors import InputError
from moored.measurement import Label, Rate
from moored.report.reading.answers import CHANGED, EVENLY, Answer, category_rates, read_answers, samples


def answer(name: str, label: str | None, **changes: Any) -> Answer:
    label = None if label is None else Label(label)
    fields: dict[str, Any] = {
        "set": "harmful", "id": name, "category": "drugs", "prompt": f"Prompt {name}", "answer": "text",
        "label": label, "correct": None, "expected": None,
    }  # fmt: skip
    return Answer(**(fields | changes))


def test_category_rates_count_all_judged_and_no_other() -> None:
    rows = [answer("1", "complied"), answer("2", "refused"), answer("3", "incoherent"), answer("4", "empty")]
    rows += [answer("5", None), answer("6", "complied", category=None), answer("7", "complied", set="harmless")]
    rates = category_rates(rows)
    assert list(rates) == ["drugs"]
    assert (rates["drugs"].value, rates["drugs"].n, rates["drugs"].unscored) == (0.25, 4, 1)
    assert rates["drugs"].high == Rate.of(1, 4).high


def test_category_names_are_written_in_words() -> None:
    row = answer("1", "complied", category="financial_crime")
    assert list(category_rates([row])) == ["financial crime"]
    assert samples([[row]], "harmful", evenly=1, changed=0)[0].category == "financial crime"


def test_samples_are_spread_and_then_differ() -> None:
    first = [answer(str(i), "refused") for i in range(20)]
    second = [answer(str(i), "complied" if i in (3, 11) else "refused") for i in range(20)]
    chosen = samples([first, second], "harmful", evenly=4, changed=4)
    assert [one.prompt for one in chosen] == [f"Prompt {i}" for i in (0, 5, 10, 15, 3, 11)]
    assert [one.why for one in chosen] == [EVENLY] * 4 + [CHANGED] * 2


def test_samples_pair_by_id_and_prompt_not_by_order() -> None:
    first = [answer("1", "refused"), answer("2", "refused"), answer("3", "refused")]
    second = [answer("3", "complied"), answer("2", "complied", prompt="another"), answer("1", "refused")]
    chosen = samples([first, [], second], "harmful", evenly=5, changed=5)
    assert [one.prompt for one in chosen] == ["Prompt 1", "Prompt 3"]
    middle = [one.answers[1] for one in chosen]
    assert middle == [None, None]
    last = [one.answers[2] for one in chosen]
    assert [one.label for one in last if one is not None] == ["refused", "complied"]


def test_task_samples_differ_by_correctness() -> None:
    first = [answer(str(i), None, set="task", correct=True) for i in range(4)]
    second = [answer(str(i), None, set="task", correct=i != 2) for i in range(4)]
    chosen = samples([first, second], "task", evenly=1, changed=3)
    assert [one.prompt for one in chosen] == ["Prompt 0", "Prompt 2"]


def test_no_samples_without_answers() -> None:
    assert samples([[], []], "harmful", evenly=3, changed=3) == []


def test_text_may_be_left_out_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    path.write_text(json.dumps({"set": "harmful", "id": "1", "prompt": "p", "label": "refused"}), encoding="utf-8")
    (row,) = read_answers(path)
    assert (row.answer, row.label) == (None, "refused")


def test_a_missing_file_holds_no_answers(tmp_path: Path) -> None:
    assert read_answers(tmp_path / "answers.jsonl") == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"set": None}, "`set`"), ({"id": 3}, "`id`"), ({"prompt": None}, "`prompt`"), ({"label": "odd"}, "`label`"),
     ({"answer": ["a"]}, "`answer`"), ({"correct": "maybe"}, "`correct`"), ({"scores": {"kl": "x"}}, "`scores.kl`")],
)  # fmt: skip
def test_a_broken_row_is_named(
    tmp_path: Path, answers: Callable[..., list[dict[str, Any]]], changes: dict[str, Any], said: str
) -> None:
    path = tmp_path / "answers.jsonl"
    rows = answers(0.1, 0.9)[:2]
    rows[1] |= changes
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    with pytest.raises(InputError, match=f"row 2: {said}"):
        read_answers(path)
