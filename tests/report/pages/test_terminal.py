import io
import re
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.table import Table

from moored.report import measure_table, read_measure, summary_table

WriteReport = Callable[..., Path]


def printed(table: Table, width: int = 80) -> str:
    console = Console(file=io.StringIO(), width=width, no_color=True)
    console.print(table)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_five_arms_fit_a_terminal_with_their_intervals_whole(five_arms: dict[str, Path]) -> None:
    shown = printed(summary_table(five_arms))
    assert max(map(len, shown.splitlines())) <= 80
    for text in ("[0.00, 0.11]", "[0.34, 0.48]", "[0.88, 1.00]", "[0.02, 0.16]", "n=100", "n=50"):
        assert text in shown, text
    assert "…" not in shown


def test_missing_is_said(write_report: WriteReport) -> None:
    table = summary_table({"one": write_report("one"), "two": write_report("two", utility=None)})
    assert printed(table).count("not measured") == 1


def test_a_measure_that_no_arm_has_takes_no_row(write_report: WriteReport) -> None:
    assert "Task" not in printed(summary_table({"one": write_report("one", utility=None)}))


def test_a_model_that_says_nothing_does_not_look_safe(write_report: WriteReport) -> None:
    silent = write_report("silent", asr=0.0, empty={"value": 1.0, "low": 0.96, "high": 1.0, "n": 100})
    assert re.search(r"Empty +1\.00", printed(summary_table({"silent": silent})))


def test_the_colour_is_the_paired_test_s(write_report: WriteReport) -> None:
    """Nine prompts gained and none lost of 100 are beyond chance, though the intervals overlap; five are not."""
    folders = {str(asr): write_report(str(asr), asr=asr) for asr in (0.10, 0.15, 0.19)}
    first, few, many = (next(iter(column.cells)) for column in summary_table(folders).columns[1:])
    assert (first.style, few.style, many.style) == ("", "", "red")  # pyright: ignore[reportAttributeAccessIssue]


def test_different_sizes_stand_in_the_cells(write_report: WriteReport) -> None:
    small = {"value": 0.5, "low": 0.2, "high": 0.8, "n": 10}
    shown = printed(summary_table({"one": write_report("one"), "two": write_report("two", asr=small)}))
    assert "0.12 n=100" in shown
    assert "0.50 n=10" in shown


def test_a_comparison_inside_a_report_is_shown(write_report: WriteReport) -> None:
    against = {
        "model": {"name": "reference", "path": "p"},
        "estimates": {"asr": {"value": 0.02, "low": 0.0, "high": 0.04, "n": 100}},
        "comparison": {"asr": {"outcome": "worse", "difference": 0.1, "n": 100}},
        "outcome": "worse", "sentence": "Drifted.",
    }  # fmt: skip
    table = measure_table(read_measure(write_report("run", against=against)))
    assert [str(column.header) for column in table.columns] == ["", "reference", "embedded:aligned"]
    (measure, first, second) = (next(iter(column.cells)) for column in table.columns)
    assert str(measure).startswith("Attack success")
    assert str(first) == "0.02\n[0.00, 0.04]"
    assert [span.style for span in second.spans if span.start == 0] == []  # pyright: ignore[reportAttributeAccessIssue]
    assert str(second) == "0.12 ▲\n[0.05, 0.19]"
    assert second.style == "red"  # pyright: ignore[reportAttributeAccessIssue]
    assert "differ from reference beyond chance (paired test, 5 %)" in str(table.caption)


def test_names_are_neither_markup_nor_escapes(write_report: WriteReport) -> None:
    shown = printed(summary_table({"[red]x[/red] \x1b[31m": write_report("one")}))
    assert "[red]x[/red] ␛[31m" in shown
    assert "\x1b" not in shown
