import json
from pathlib import Path
from typing import Any

import pytest
from tests.report.gradient_reports import aligned, base_direction, correlations, data, report, write

from moored.errors import InputError
from moored.report import gradients_table, render_gradients
from moored.report.reading.gradients import ParametersRecord, read_gradients
from moored.report.reading.record import ModelRecord
from moored.report.words.gradient_findings import findings, remarks

EVIL = "<script>document.title='changed'</script>"
LEFT_OUT = {"base_direction": None, "not_compared": "No base was named."}


def test_the_page_tells_what_was_found(tmp_path: Path, read_page: Any):
    page = read_page(render_gradients(write(tmp_path)))
    assert page.all("title")[0].text() == "Gradients of embedded:aligned"
    assert len(page.all("svg", class_="plot")) == 6
    text = page.text()
    assert "Gradient norms fall with answer length: Spearman’s rho -0.80 [-0.90, -0.70] n=40." in text
    assert "7 matrices are identical in both, so there is nothing to compare: all of layers 1 to 2." in text
    assert "first, middle and last layer that differ: 0, 4, 9." in text
    assert "40 of 100 rows of rows.jsonl" in text and "123,456 numbers in 12 tensors" in text
    scores = page.all("table")[0].all("tr")
    assert [cell.text() for cell in scores[1].all("td")] == ["1", "2", "3", "4", "5"]
    rows = page.all("table")[-1].all("tr")
    assert len(rows) == 1 + 1 + 3 and "together" in rows[1].text() and "0.25" in rows[2].text()
    cells = [cell.text() for cell in rows[2].all("td")]
    assert cells[3] == "+0.020 [+0.010, +0.030] n=40" and cells[-1] == "[-0.30, +0.30]" and len(cells) == 11
    assert page.all("script") == page.all("img") == []


def test_a_report_is_read_as_it_was_written(tmp_path: Path):
    assert read_gradients(write(tmp_path)) == report()
    assert "samples" not in json.loads((tmp_path / "report.json").read_text())


def test_a_broken_sample_is_named(tmp_path: Path):
    write(tmp_path)
    (tmp_path / "samples.jsonl").write_text('{"row": 1}\n')
    with pytest.raises(InputError, match=r"samples\.jsonl: `0\.loss` is .*Field required"):
        read_gradients(tmp_path)


def test_what_was_left_out_is_said_and_not_drawn(tmp_path: Path, read_page: Any):
    page = read_page(render_gradients(write(tmp_path, **LEFT_OUT)))
    assert page.text().count("No base was named.") == 2 and len(page.all("svg", class_="plot")) == 4


def test_names_from_outside_are_only_text(tmp_path: Path, read_page: Any):
    model = ModelRecord(name=EVIL, path="folder", weights_sha256="ab" * 32)
    page = read_page(render_gradients(write(tmp_path, data=data(source=EVIL), model=model)))
    assert page.all("script") == [] and page.text().count(EVIL) >= 3


def test_numbers_that_are_missing_are_not_zero(tmp_path: Path, read_page: Any):
    groups = ("all", "high", "moderate", "low")
    together = aligned(cosine=None, rho=None, control_means=dict.fromkeys(groups), control_rho=None)
    compared = base_direction(together=together)
    folder = write(tmp_path, base_direction=compared, correlations=correlations(None, None))
    text = read_page(render_gradients(folder)).text()
    assert "was not measured: too few samples" in text and "No update could be compared" in text


def test_a_report_of_another_kind_is_refused(tmp_path: Path):
    file = write(tmp_path) / "report.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "kind": "measure"}))
    with pytest.raises(InputError, match="of kind 'measure'"):
        render_gradients(tmp_path)
    file.write_text("[]")
    with pytest.raises(InputError, match="is no report"):
        render_gradients(tmp_path)


@pytest.mark.parametrize(
    ("cosine", "rho", "says"),
    [
        (0.02, 0.5, ("updates point towards embedded:base", "larger norm point towards the base more:")),
        (-0.02, -0.5, ("updates point away from embedded:base", "larger norm point towards the base less:")),
        (0.001, 0.2, ("no more towards embedded:base than anywhere else", "no more than chance allows")),
    ],
)
def test_a_finding_is_one_only_beyond_the_shuffled_signs(cosine: float, rho: float, says: tuple[str, str]):
    sentences = findings(report(base_direction=base_direction(together=aligned(cosine, rho))))
    assert len(sentences) == 5 and says[0] in sentences[3] and says[1] in sentences[4]
    assert "p = 0.012" in sentences[4]


def test_a_correlation_is_told_by_its_interval():
    sentences = findings(report(correlations=correlations(0.8, 0.05)))
    assert sentences[0].startswith("Gradient norms grow with answer length")
    assert sentences[1].startswith("Gradient norms show no detectable relation to loss")
    assert sentences[2].endswith("embeddings, head 0.600 [0.590, 0.610] n=40; layer 1 0.350 [0.340, 0.360] n=40.")


def test_what_to_know_is_said_only_where_it_is_so():
    assert remarks(report()) == []
    new_lora = ParametersRecord(which="lora", new_lora=True, tensors=2, numbers=8)
    changed = report(data=data(without_answer=3, cut=2), parameters=new_lora)
    assert [text.rpartition(" ")[2] for text in remarks(changed)] == ["3.", "2.", "yet."]


def test_the_terminal_shows_the_main_numbers():
    table = gradients_table(report())
    cells = [[str(cell) for cell in column.cells] for column in table.columns]
    assert cells[0][:2] == ["norm and length, rho", "norm and loss, rho"]
    assert cells[1][0] == "-0.80 [-0.90, -0.70] n=40"
    assert "share outside the layers" in cells[0] and "cosine with the base direction, moderate" in cells[0]
    assert len(gradients_table(report(**LEFT_OUT)).rows) == len(table.rows) - 5


def test_a_notebook_shows_a_row_for_each_sample():
    rows = report().rows()
    assert len(rows) == 40 and rows[1]["groups"] == ["moderate"]
    assert report()._repr_html_().count("<tr>") == 41
