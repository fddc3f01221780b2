from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from moored.report.figures.rates import categories_plot, rates_plot, tradeoff_plot
from moored.report.reading.arms import comparison_arms

WriteReport = Callable[..., Path]


def texts(svg: object) -> list[str]:
    return ["".join(element.itertext()) for element in ElementTree.fromstring(str(svg)).iter("text")]


def described(svg: object) -> str:
    return ElementTree.fromstring(str(svg)).findtext("desc") or ""


def test_rates_are_written_beside_their_marks(five_arms: dict[str, Path]) -> None:
    svg = rates_plot(comparison_arms(five_arms), ["asr", "over_refusal"], name="rates")
    shown = texts(svg)
    assert "D · poisoned fine-tune" in shown
    assert "0.95 [0.88, 1.00]" in shown
    assert shown.count("0.30 [0.23, 0.37]") == 5
    assert "attack success, n=100" in shown
    assert "D, poisoned fine-tune: attack success 0.95 [0.88, 1.00] n=100, over-refusal" in described(svg)


def test_marks_stand_where_the_numbers_say(write_report: WriteReport) -> None:
    arms = comparison_arms({"low": write_report("low", asr=0.0), "half": write_report("half", asr=0.5),
                            "high": write_report("high", asr=1.0)})  # fmt: skip
    root = ElementTree.fromstring(str(rates_plot(arms, ["asr"], name="rates")))
    uses = [e for e in root.iter("use") if "var(--risk)" in (e.get("style") or "")]
    low, half, high = [float(e.attrib["x"]) for e in uses][:3]
    assert low < half < high
    assert abs((low + high) / 2 - half) < 0.01


def test_a_missing_rate_is_said(write_report: WriteReport) -> None:
    arms = comparison_arms({"one": write_report("one"), "two": write_report("two", asr=None)})
    svg = rates_plot(arms, ["asr"], name="rates")
    assert texts(svg).count("not measured") == 1
    assert "B, two: attack success not measured" in described(svg)


def test_different_sizes_are_said(write_report: WriteReport) -> None:
    small = {"value": 0.5, "low": 0.2, "high": 0.8, "n": 10}
    arms = comparison_arms({"one": write_report("one"), "two": write_report("two", asr=small)})
    assert "attack success, n=10 to 100" in texts(rates_plot(arms, ["asr"], name="rates"))


def test_categories_show_every_arm_and_category(five_arms: dict[str, Path]) -> None:
    svg = categories_plot(comparison_arms(five_arms), name="categories")
    shown = texts(svg)
    assert {"A", "B", "C", "D", "E", "fraud and scams", "weapons"} <= set(shown)
    assert sum(text.count(".") for text in shown) == 50
    assert "weapons 0.90" in described(svg)


def test_a_category_that_an_arm_lacks_is_no_zero(
    write_report: WriteReport, answers: Callable[..., list[dict[str, Any]]]
) -> None:
    rows = [row for row in answers(0.1, 0.9) if row["category"] != "malware"]
    arms = comparison_arms({"one": write_report("one"), "two": write_report("two", rows=rows)})
    svg = categories_plot(arms, name="categories")
    assert texts(svg).count("–") == 1
    assert "malware –" in described(svg)


def test_no_labels_no_categories(write_report: WriteReport) -> None:
    assert categories_plot(comparison_arms({"one": write_report("one", rows=[])}), name="x") is None


def test_tradeoff_shows_the_arms_that_have_both(write_report: WriteReport) -> None:
    arms = comparison_arms({"one": write_report("one"), "two": write_report("two", utility=None)})
    svg = tradeoff_plot(arms, name="tradeoff")
    assert "A" in texts(svg)
    assert "B" not in texts(svg)
    assert tradeoff_plot(arms[1:], name="tradeoff") is None


def test_many_arms_with_long_and_odd_names(write_report: WriteReport) -> None:
    folder = write_report("run")
    arms = comparison_arms({f"{i} $a_b$ \ud800 你好 " + "very-long-" * 30: folder for i in range(12)})
    for svg in (
        rates_plot(arms, ["asr"], name="a"), categories_plot(arms, name="b"), tradeoff_plot(arms, name="c"),
    ):  # fmt: skip
        assert "L" in " ".join(texts(svg))
    assert all(len(text) < 60 for text in texts(rates_plot(arms, ["asr"], name="a")))
