"""The tables of the trials follow from the runs in results/."""

import shutil

from benchmarks.trials import tables


def test_a_table_comes_out_of_the_runs_as_it_stands(tmp_path):
    trial = "recovery_0.5b"
    shutil.copytree(tables.RESULTS / trial, tmp_path / trial)
    table = tmp_path / trial / "table.md"
    table.unlink()
    tables.remake(trial, tmp_path)
    assert table.read_text() == (tables.RESULTS / trial / "table.md").read_text(), (
        "run `python -m benchmarks.trials.tables`"
    )
