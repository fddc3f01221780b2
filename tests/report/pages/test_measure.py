import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from moored.errors import InputError
from moored.measurement import MEASURES
from moored.report import render_comparison, render_figure, render_measure

WriteReport = Callable[..., Path]
HOSTILE = {
    "script": "<script>document.title = 'changed'</script>",
    "closing": "</div></details></section></main></body></html>",
    "image": "<img src=x onerror=\"document.title='changed'\">",
    "svg": "</svg><svg onload=alert(1)>",
    "quotes": '"\'`> onmouseover=alert(1) x="',
    "template": "{{ 7 * 7 }}{% raw %}",
    "comment": "<!-- ]]> -->",
    "entities": "&lt;b&gt; &amp; &#60;",
    "style": "</style></title><style>body{display:none}</style>",
    "control": "\x00\x07\x1b[31m\r\x85",
    "surrogate": "\ud83d alone \udc00",
    "bidi": "abc \u202eevil\u202c \u2066x",
    "scripts": "你好 مرحبا שלום 👩‍👩‍👧",
    "long": "x" * 100_000,
}
AGAINST: dict[str, Any] = {
    "model": {"name": "reference", "path": "p", "adapter": None, "weights_sha256": "cd" * 32},
    "estimates": {"asr": {"value": 0.04, "low": 0.01, "high": 0.05, "n": 100}},
    "comparison": {
        "asr": {"outcome": "worse", "difference": 0.37, "low": 0.27, "high": 0.47, "p": 1e-9, "n": 100,
                "smallest_detectable": 0.07}
    },
    "outcome": "worse",
    "sentence": "Drifted: attack success rose by 0.37.",
    "next_command": "moored recover base --adapter mine",
}  # fmt: skip


def cells(page: Any) -> dict[str, list[str]]:
    """Measure → the texts of its cells, as a screen reader has them."""
    (table,) = page.all("table", class_="numbers")
    rows = {}
    for row in table.all("tbody")[0].all("tr"):
        for hidden in row.all("", aria_hidden="true") + row.all("span", class_="arm"):
            hidden.children = []
        rows[row.all("th")[0].children[0]] = [cell.text() for cell in row.all("td")]
    return rows


def test_the_page_has_its_parts_in_order(five_arms: dict[str, Path], tmp_path: Path, read_page: Any) -> None:
    path = render_comparison(five_arms, tmp_path / "out", title="What happened", story=["It drifted.", "It came back."])
    assert path == tmp_path / "out" / "index.html"
    page = read_page(path)
    assert page.all("title")[0].text() == page.all("h1")[0].text() == "What happened"
    assert page.all("p", class_="lead")[0].text() == "It drifted."
    assert [item.text() for item in page.all("ul", class_="findings")[0].all("li")] == ["It came back."]
    headings = [heading.text() for heading in page.all("h2")]
    assert headings == ["The numbers", "A closer look", "Answers side by side", "Where the numbers come from"]
    assert len(page.all("svg")) == 4
    assert page.all("p", class_="warning") == []


def test_the_table_shows_every_number_with_interval_and_n(five_page: Path, read_page: Any) -> None:
    rows = cells(read_page(five_page))
    assert rows["Attack success"] == [
        "0.04 [0.00, 0.11] n=100",
        "0.41 [0.34, 0.48] n=100 ▲ higher than A",
        "0.06 [0.00, 0.13] n=100",
        "0.95 [0.88, 1.00] n=100 ▲ higher than A",
        "0.09 [0.02, 0.16] n=100",
    ]
    assert len(rows) == 9


def test_the_interval_with_the_judge_s_error_stands_below(
    write_report: WriteReport, tmp_path: Path, read_page: Any
) -> None:
    rate = {"value": 0.12, "low": 0.05, "high": 0.19, "n": 100, "undecided": 4}
    folder = write_report("judged", asr={**rate, "judged_low": 0.02, "judged_high": 0.2149})
    page = read_page(render_comparison({"judged": folder}, tmp_path / "out", title="t"))
    assert cells(page)["Attack success"] == ["0.12 [0.05, 0.19] n=100, 4 undecided with the judge’s error [0.02, 0.21]"]
    assert "on labelled answers of models that it was not made for" in page.text()


def test_without_a_story_the_numbers_speak(five_page: Path, read_page: Any) -> None:
    page = read_page(five_page)
    assert page.all("p", class_="lead")[0].text().startswith("Attack success of aligned (A) is 0.04")
    assert len(page.all("ul", class_="findings")[0].all("li")) == 4


def test_missing_values_are_said_and_never_zero(write_report: WriteReport, tmp_path: Path, read_page: Any) -> None:
    folder = write_report("empty", rows=[], **dict.fromkeys(MEASURES))
    page = read_page(render_comparison({"empty": folder}, tmp_path / "out", title="t"))
    assert {text for row in cells(page).values() for text in row} == {"not measured"}
    assert page.all("svg") == []
    assert page.all("p", class_="lead")[0].text() == "empty (A): nothing was measured."
    assert "Answers side by side" not in page.text()


def test_one_missing_value_among_others(write_report: WriteReport, tmp_path: Path, read_page: Any) -> None:
    arms = {"one": write_report("one"), "two": write_report("two", over_refusal=None)}
    rows = cells(read_page(render_comparison(arms, tmp_path / "out", title="t")))
    assert rows["Over-refusal"] == ["0.30 [0.23, 0.37] n=100", "not measured"]


def test_nothing_is_loaded_and_nothing_runs(five_page: Path, read_page: Any) -> None:
    page = read_page(five_page)
    for element in page.all():
        assert element.tag not in ("script", "iframe", "object", "embed", "img", "base"), element.tag
        assert not [name for name in element.attributes if name.startswith("on")]
        for name in ("src", "href"):
            assert element.attributes.get(name, "#").startswith(("#", "data:,"))
    text = five_page.read_text(encoding="utf-8")
    assert not re.findall(r"https?:|@import|url\((?!#)", text)
    (policy,) = [e.attributes["content"] for e in page.all("meta") if "http-equiv" in e.attributes]
    assert policy == "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def test_ids_are_unique_and_labels_point_to_them(five_page: Path, read_page: Any) -> None:
    page = read_page(five_page)
    ids = [element.attributes["id"] for element in page.all() if "id" in element.attributes]
    assert len(ids) == len(set(ids))
    labels = " ".join(element.attributes.get("aria-labelledby", "") for element in page.all()).split()
    assert len(labels) >= 12
    assert set(labels) <= set(ids)


def test_harmful_text_is_folded_away_behind_a_note(five_page: Path, read_page: Any) -> None:
    page = read_page(five_page)
    assert page.all("details")
    assert not [element for element in page.all("details") if "open" in element.attributes]
    (harmful,) = page.all("details", class_="harmful")
    assert len(harmful.all("article")) == 8
    assert page.text().count("A harmful request") == harmful.text().count("A harmful request") == 8
    assert "harmful requests" in page.all("p", class_="content-note")[0].text()


def test_answers_to_one_prompt_stand_side_by_side(five_page: Path, read_page: Any) -> None:
    page = read_page(five_page)
    (harmful,) = page.all("details", class_="harmful")
    differing = harmful.all("article")[-1]
    assert differing.all("p", class_="why")[0].text().startswith("outcome differs")
    shown = [answer.all("p", class_="who")[0].text() for answer in differing.all("div", class_="answer")]
    assert shown[0] == "A aligned refused"
    assert shown[3] == "D poisoned fine-tune complied"
    (task,) = page.all("details", class_="task")
    assert 'Expected {"item": "tea", "count": 0}' in task.text()
    assert "E poisoned fine-tune, repaired correct" in task.text()


def test_text_that_was_not_kept_and_empty_answers(
    write_report: WriteReport, tmp_path: Path, read_page: Any, answers: Callable[..., list[dict[str, Any]]]
) -> None:
    kept, bare = answers(0.1, 0.9), answers(0.1, 0.9)
    kept[0] |= {"answer": "  ", "label": "empty"}
    bare[0]["answer"] = None
    arms = {"one": write_report("one", rows=kept), "two": write_report("two", rows=bare),
            "three": write_report("three", rows=[])}  # fmt: skip
    page = read_page(render_comparison(arms, tmp_path / "out", title="t"))
    one, two, three = (answer.text() for answer in page.all("article")[0].all("div", class_="answer"))
    assert one == "A one empty an empty answer"
    assert two.endswith("the text was not kept")
    assert three == "C three no answer kept"


@pytest.mark.parametrize("name", list(HOSTILE))
def test_text_from_models_and_files_cannot_inject_markup(
    write_report: WriteReport, tmp_path: Path, read_page: Any, answers: Callable[..., list[dict[str, Any]]], name: str
) -> None:
    evil = HOSTILE[name]
    plain_rows, rows = answers(0.5, 0.5), answers(0.5, 0.5)
    for row in rows:
        row |= {"prompt": f"{row['id']} {evil}", "answer": evil, "category": row["category"] and evil}
        row |= {"expected": row["expected"] and evil}
    for row in plain_rows:
        row["category"] = row["category"] and "one"
    prompts = {"harmful": {"n": 1, "rendered_sha256": "aa" * 32, "source": evil}}
    changes = {
        "command": evil, "created": evil, "versions": {evil: evil}, "prompts": prompts,
        "settings": {"max_new_tokens": evil}, "judge": {"name": evil, "version": evil},
        "model": {"name": evil, "path": evil, "adapter": evil, "weights_sha256": evil, "precision": evil},
        "against": AGAINST | {"sentence": evil, "next_command": evil},
    }  # fmt: skip
    calm = {key: "calm" for key in ("command", "created")} | {
        "settings": {"max_new_tokens": "calm"}, "versions": {"calm": "calm"}, "against": AGAINST,
        "prompts": {"harmful": prompts["harmful"] | {"source": "calm"}},
        "model": dict.fromkeys(("name", "path", "adapter", "weights_sha256", "precision"), "calm"),
        "judge": {"name": "calm", "version": "calm"},
    }  # fmt: skip
    folder, other = write_report("evil", rows=rows, **changes), write_report("calm", rows=plain_rows, **calm)
    assert shape(read_page(render_measure(folder))) == shape(read_page(render_measure(other)))


def test_names_title_and_story_cannot_inject_markup(write_report: WriteReport, tmp_path: Path, read_page: Any) -> None:
    folder, evil = write_report("run"), "".join(HOSTILE.values())
    hostile = render_comparison({evil: folder, "b": folder}, tmp_path / "1", title=evil, story=[evil, evil])
    calm = render_comparison({"a": folder, "b": folder}, tmp_path / "2", title="calm", story=["calm", "calm"])
    assert shape(read_page(hostile)) == shape(read_page(calm))


def shape(page: Any) -> list[tuple[str, tuple[str, ...]]]:
    """All elements with their attributes' names, but for what the length of a text decides."""
    for cut in page.all("p", class_="left"):
        cut.parent.children.remove(cut)
    outside = [e for e in page.all() if e.tag == "svg" or e.inside("svg") is None]
    return [(element.tag, tuple(sorted(element.attributes))) for element in outside]


def test_odd_characters_are_shown_as_signs(
    write_report: WriteReport, tmp_path: Path, answers: Callable[..., list[dict[str, Any]]]
) -> None:
    rows = answers(0.5, 0.5)
    rows[0]["answer"] = "a\x00b\u202ec\ud800d"
    path = render_comparison({"one": write_report("one", rows=rows)}, tmp_path / "out", title="t")
    text = path.read_text(encoding="utf-8")
    assert "a␀b⟨U+202E⟩c\ufffdd" in text
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", text)


def test_long_answers_are_cut_and_say_so(
    write_report: WriteReport, tmp_path: Path, read_page: Any, answers: Callable[..., list[dict[str, Any]]]
) -> None:
    rows = answers(1.0, 0.5, "word " * 20_000)
    path = render_comparison({"one": write_report("one", rows=rows)}, tmp_path / "out", title="t")
    assert "… and 99520 more characters" in read_page(path).all("details", class_="harmful")[0].text()
    assert path.stat().st_size < 200_000


def test_other_prompts_are_warned_of(write_report: WriteReport, tmp_path: Path, read_page: Any) -> None:
    other = {"harmful": {"n": 100, "rendered_sha256": "ff" * 32, "source": None}}
    arms = {"one": write_report("one"), "two": write_report("two", asr=0.9, prompts=other)}
    page = read_page(render_comparison(arms, tmp_path / "out", title="t"))
    (warning,) = page.all("p", class_="warning")
    assert "did not see the same harmful prompts" in warning.text()
    assert cells(page)["Attack success"][1] == "0.90 [0.83, 0.97] n=100"
    checks = [item.text() for item in page.all("ul", class_="checks")[0].all("li")]
    assert checks[0].endswith("✗ not the same in all arms")


def test_provenance(five_page: Path, read_page: Any) -> None:
    page = read_page(five_page)
    text = page.all("section")[-1].text()
    for part in (
        "moored measure embedded:aligned --out run",
        "ab" * 32,
        "refusal 1",
        "greedy, up to 48 tokens",
        "2.13.0",
    ):
        assert part in text, part
    assert "harmful prompts n=100, embedded:harmful, rendered sha256 0c0c0c0c0c0c ✓ the same in all arms" in text


def test_a_single_measure(write_report: WriteReport, read_page: Any) -> None:
    folder = write_report("run", asr=0.12)
    path = render_measure(folder)
    assert path == folder / "index.html"
    page = read_page(path)
    assert page.all("h1")[0].text() == "Safety of embedded:aligned"
    assert page.all("p", class_="lead")[0].text() == (
        "embedded:aligned (A): attack success 0.12 [0.05, 0.19], task accuracy 0.90 [0.83, 0.97]."
    )
    assert page.all("p", class_="next") == []


def test_a_measure_against_another_shows_both_and_the_verdict(write_report: WriteReport, read_page: Any) -> None:
    page = read_page(render_measure(write_report("run", asr=0.41, against=AGAINST)))
    assert page.all("p", class_="lead")[0].text() == "Drifted: attack success rose by 0.37."
    assert page.all("p", class_="next")[0].text() == "Next: moored recover base --adapter mine"
    assert cells(page)["Attack success"] == ["0.04 [0.01, 0.05] n=100", "0.41 [0.34, 0.48] n=100 ▲ higher than A"]
    assert cells(page)["Over-refusal"][0] == "not measured"
    (row,) = [row for row in page.all("tr") if "+0.37" in row.text()]
    shown = [cell.text() for cell in row.all("th") + row.all("td")]
    assert shown == ["Attack success", "worse", "+0.37", "[0.27, 0.47]", "< 0.001", "100", "0.07"]


def test_the_same_reports_give_the_same_bytes(five_arms: dict[str, Path], tmp_path: Path) -> None:
    first = render_comparison(five_arms, tmp_path / "1", title="t").read_bytes()
    assert render_comparison(five_arms, tmp_path / "2", title="t").read_bytes() == first


def test_a_failed_rendering_leaves_the_old_page(write_report: WriteReport, tmp_path: Path) -> None:
    out = tmp_path / "out"
    path = render_comparison({"one": write_report("one")}, out, title="t")
    before = path.read_bytes()
    with pytest.raises(InputError):
        render_comparison({"one": write_report("two", asr={"value": "much", "n": 3})}, out, title="t")
    assert path.read_bytes() == before
    assert [file.name for file in out.iterdir()] == ["index.html"]


def test_the_figure_is_a_file_of_its_own_with_all_arms(five_arms: dict[str, Path], tmp_path: Path) -> None:
    path = render_figure(five_arms, tmp_path / "figure.svg")

    root = ElementTree.parse(path).getroot()
    texts = ["".join(element.itertext()) for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert [text[:1] for text in texts if " · " in text] == ["A", "B", "C", "D", "E"]
    assert any(text.startswith("attack success") for text in texts)
    assert any(text.startswith("task accuracy") for text in texts)
    assert "prefers-color-scheme: dark" in path.read_text(encoding="utf-8")
