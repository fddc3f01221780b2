import math
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings
from tests.report.pages.test_measure import HOSTILE
from tests.report.selections import made_example, made_selection, selection_values

from moored.errors import InputError
from moored.report import render_selection, selection_findings
from moored.report.figures.canvas import log_ticks


@pytest.fixture
def shown(tmp_path: Path, read_page: Any) -> Any:
    """The page of a report with some parts changed."""
    return lambda **changes: read_page(render_selection(made_selection(**changes), tmp_path / "out"))


def test_the_page_has_its_parts_in_order(shown: Any, tmp_path: Path) -> None:
    page = shown()
    assert page.all("h1")[0].text() == "Rows selected from rows.jsonl"
    assert page.all("p", class_="lead")[0].text().startswith("The rule moderate keeps 248 of 1,240 rows, chosen once")
    headings = [heading.text() for heading in page.all("h2")]
    assert headings == ["The numbers", "Some of the rows", "Where the numbers come from"]
    assert len(page.all("svg", class_="plot")) == 2 and len(page.all("table")) == 2
    assert "embedded:aligned" in page.all("dl")[0].text() and "cd" * 32 in page.all("dl")[0].text()
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["index.html"]


def test_it_is_self_contained_and_runs_nothing(shown: Any) -> None:
    page = shown()
    assert page.all("script") == page.all("img") == page.all("iframe") == []
    links = [e.attributes.get(key, "") for e in page.all() for key in ("src", "href") if key in e.attributes]
    assert all(link.startswith(("#", "data:,")) for link in links)
    assert any("default-src 'none'" in meta.attributes.get("content", "") for meta in page.all("meta"))


def test_the_examples_are_folded_away(shown: Any) -> None:
    folded = shown().all("details", class_="samples")
    assert [each.all("summary")[0].text() for each in folded] == [
        "The lowest gradient norms 5 rows",
        "Kept rows of middle norm 5 rows",
        "The highest gradient norms 5 rows",
    ]
    assert all("open" not in each.attributes and len(each.all("article")) == 5 for each in folded)
    assert "highest answer 4" in folded[2].text() and "norm 3.25" in folded[2].text()


@pytest.mark.parametrize("kind", HOSTILE)
def test_text_of_the_data_stays_text(shown: Any, kind: str) -> None:
    text = HOSTILE[kind]
    row = made_example(prompt=text[:600], answer=text[:600], prompt_left=max(0, len(text) - 600))
    changes = {"data": {"name": text.replace("/", "")[:300], "sha256": "", "columns": []}, "command": text}
    page, plain = shown(examples={name: [row] for name in ("lowest", "kept_middle", "highest")}, **changes), shown()
    tags = sorted({each.tag for each in page.all()})
    assert tags == sorted({each.tag for each in plain.all()} | ({"p"} if row["prompt_left"] else set()))
    assert page.all("h2")[0].text() == "The numbers"
    if kind in ("script", "image", "svg", "template", "entities"):
        assert " ".join(text.split()) in page.all("article")[0].text()
    if kind == "long":
        assert "… and 99400 more characters" in page.text()


def test_the_tables_show_every_number_with_its_n(shown: Any) -> None:
    quantities, overlaps = (
        [[cell.text() for cell in row.all("td")] for row in table.all("tbody")[0].all("tr")]
        for table in shown().all("table")
    )
    assert quantities[0] == ["all", "1240", "1", "1.5", "2", "3", "5", "20", "160"]
    assert quantities[1][:3] == ["kept", "248", "2.5"]
    assert overlaps == [["8", "0.12", "0.20", "0.00 to 0.50"], ["8", "0.38", "0.20", "0.00 to 0.50"]]


def _told(**changes: Any) -> str:
    return " ".join(selection_findings(made_selection(**changes)))


def _confound(**changes: Any) -> dict[str, Any]:
    return {"length_confound": selection_values()["numbers"]["length_confound"] | changes}


@pytest.mark.parametrize(
    ("correlation", "sentence", "meant"),
    [
        ((-0.71, -0.75, -0.66), "Spearman’s ρ = −0.71 [−0.75, −0.66], n=1,240.", "Rows with short answers"),
        ((0.4, 0.3, 0.5), "Spearman’s ρ = 0.40 [0.30, 0.50], n=1,240.", "Rows with long answers"),
        ((-0.02, -0.1, 0.06), "Spearman’s ρ = −0.02 [−0.10, 0.06], n=1,240.", None),
        ((1.0, None, None), "Spearman’s ρ = 1.00, n=1,240.", None),
        ((None, None, None), "no rank correlation, since one of them does not vary (n=1,240).", None),
    ],
)
def test_the_length_confound_is_told_as_far_as_it_shows(correlation: Any, sentence: str, meant: str | None) -> None:
    found = dict(zip(("rho", "low", "high"), correlation, strict=True)) | {"n": 1240}
    told = selection_findings(made_selection(**_confound(norm_and_tokens=found)))[0]
    assert told.startswith(f"Gradient norm and answer length: {sentence}")
    assert meant in told if meant is not None else "choice by length" not in told


def test_the_lengths_of_the_kept_rows_are_told() -> None:
    assert "with probability 0.60 [0.55, 0.65] (n=248 and 992); 0.5 would be no difference" in _told()
    without = {"probability": None, "low": None, "high": None, "n": [1240, 0]}
    assert "no row was left out." in _told(**_confound(kept_longer_than_left_out=without))
    sure = {"probability": 1.0, "low": None, "high": None, "n": [2, 2]}
    assert "with probability 1.00 (n=2 and 2)" in _told(**_confound(kept_longer_than_left_out=sure))


def test_what_happened_to_odd_rows_and_whose_gradients_is_told_where_it_matters() -> None:
    assert "token within" not in _told() and "LoRA" not in _told() and "static selection" in _told()
    rows = selection_values()["numbers"]["rows"] | {"without_supervised_token": 3, "cut_at_max_length": 1200}
    assert "within 1024 tokens: 3." in _told(rows=rows) and "their beginning alone: 1,200." in _told(rows=rows)
    assert "only they have a gradient" in _told(settings=selection_values()["settings"] | {"parameters": "lora"})


def test_a_single_row_and_equal_norms_can_be_drawn(shown: Any) -> None:
    same = dict.fromkeys(selection_values()["numbers"]["quantiles"]["norm"]["all"], 2.0)
    page = shown(
        points=[[1, 2.0, True]],
        quantiles={name: {"all": same, "kept": same} for name in ("norm", "loss", "tokens")},
        histogram={"edges": [1.98, 2.0, 2.02], "all": [0, 1], "kept": [0, 1]},
    )
    assert len(page.all("svg", class_="plot")) == 2


def test_a_page_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="Cannot write"):
        render_selection(made_selection(), tmp_path / "file")


@given(low=st.floats(1e-6, 1e6), share=st.floats(1.02, 1e9))
@settings(deadline=None, derandomize=True)
def test_an_axis_has_a_few_ticks_in_its_range(low: float, share: float) -> None:
    high = low * share
    ticks = log_ticks(low, high)
    assert 2 <= len(ticks) <= 6 and ticks == sorted({*ticks})
    assert all(low <= tick * 1.01 and tick / 1.01 <= high for tick in ticks)


def test_ticks_are_round_numbers() -> None:
    assert log_ticks(6.0, 170.0) == [10, 20, 50, 100]
    assert [math.log10(tick) for tick in log_ticks(0.5, 3e5)] == [0, 1, 2, 3, 4, 5]
