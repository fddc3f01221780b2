import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from tests.report.gradient_reports import aligned, correlation, report, reversion, write

from moored.errors import InputError
from moored.report import gradients_table, render_gradients
from moored.report.words.gradient_findings import findings, remarks

EVIL = "<script>document.title='changed'</script>"


def test_the_page_tells_what_was_found(tmp_path: Path, read_page: Any):
    page = read_page(render_gradients(write(tmp_path)))
    assert page.all("title")[0].text() == "Gradients of embedded:aligned"
    assert len(page.all("svg", class_="plot")) == 6
    text = page.text()
    assert "Gradient norms fall with answer length: Spearman’s rho -0.80 [-0.90, -0.70] n=40." in text
    assert "7 matrices are identical in both, so there is nothing to compare: all of layers 1 to 2." in text
    assert "40 of 100 rows of rows.jsonl" in text and "123,456 numbers in 12 tensors" in text
    rows = page.all("table")[-1].all("tr")
    assert len(rows) == 1 + 1 + 3 and "together" in rows[1].text() and "0.25" in rows[2].text()
    assert page.all("script") == page.all("img") == []


def test_what_was_left_out_is_said_and_not_drawn(tmp_path: Path, read_page: Any):
    page = read_page(render_gradients(write(tmp_path, reversion={"left_out": "No base was named."})))
    assert page.text().count("No base was named.") == 2 and len(page.all("svg", class_="plot")) == 4


def test_names_from_outside_are_only_text(tmp_path: Path, read_page: Any):
    data = report()["data"] | {"source": EVIL}
    model = report()["model"] | {"name": EVIL}
    page = read_page(render_gradients(write(tmp_path, data=data, model=model)))
    assert page.all("script") == [] and page.text().count(EVIL) >= 3


def test_numbers_that_are_missing_are_not_zero(tmp_path: Path, read_page: Any):
    together = aligned(cosine=None, rho=None)
    together["control"] = {"cosine": dict.fromkeys(together["cosine"]), "rho": None}
    correlations = {"length": correlation(None), "loss": correlation(None)}
    folder = write(tmp_path, reversion=reversion(together=together), correlations=correlations)
    text = read_page(render_gradients(folder)).text()
    assert "was not measured: too few samples" in text and "No update has a direction" in text


def test_a_report_of_another_kind_is_refused(tmp_path: Path):
    with pytest.raises(InputError, match="of kind 'measure'"):
        render_gradients(write(tmp_path, kind="measure"))
    (tmp_path / "report.json").write_text("[]")
    with pytest.raises(InputError, match="is no report"):
        render_gradients(tmp_path)


@pytest.mark.parametrize(
    ("cosine", "rho", "says"),
    [
        (0.02, 0.5, ("updates lead back to embedded:base", "larger norm lead back more")),
        (-0.02, -0.5, ("updates lead away from embedded:base", "larger norm lead back less")),
        (0.001, 0.2, ("lead no more to embedded:base than to anywhere else", "not lead back more than chance")),
    ],
)
def test_a_finding_is_one_only_beyond_the_shuffled_signs(cosine: float, rho: float, says: tuple[str, str]):
    told = findings(report(reversion=reversion(together=aligned(cosine, rho))))
    assert len(told) == 5 and says[0] in told[3] and says[1] in told[4] and "p = 0.012" in told[4]


def test_a_correlation_is_told_by_its_interval():
    rising = {"length": correlation(0.8), "loss": correlation(0.05)}
    told = findings(report(correlations=rising))
    assert told[0].startswith("Gradient norms grow with answer length")
    assert told[1].startswith("Gradient norms show no relation to loss that this n could tell")
    assert told[2].endswith("embeddings, head 0.600 [0.590, 0.610] n=40; layer 1 0.350 [0.340, 0.360] n=40.")


def test_what_to_know_is_said_only_where_it_is_so():
    assert remarks(report()) == []
    changed = report(data=report()["data"] | {"without_answer": 3, "cut": 2}, parameters={"new_lora": True})
    assert [text.rpartition(" ")[2] for text in remarks(changed)] == ["3.", "2.", "yet."]


def test_the_terminal_shows_the_main_numbers():
    table = gradients_table(report())
    cells = [[*map(str, column.cells)] for column in table.columns]
    assert cells[0][:2] == ["norm and length, rho", "norm and loss, rho"]
    assert cells[1][0] == "-0.80 [-0.90, -0.70] n=40"
    assert "share outside the layers" in cells[0] and "cosine with the way back, moderate" in cells[0]
    assert len(gradients_table(report(reversion={"left_out": "No."})).rows) == len(table.rows) - 5


def test_the_name_of_a_module_is_no_markup_in_the_table():
    shares = report()["shares"]
    shares = shares | {"kind": [{**shares["kind"][0], "name": "[/x]\x1b[2J", "mean": 2.0}]}
    console = Console(file=io.StringIO(), width=100)
    console.print(gradients_table(report(shares=shares)))
    assert isinstance(console.file, io.StringIO) and "of kind [/x]␛[2J" in console.file.getvalue()
