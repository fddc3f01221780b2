"""The page in a real headless Chromium."""

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pytest
from tests.report.gradient_reports import samples, write
from tests.report.selections import made_example, made_selection

from moored.report import render_comparison, render_gradients, render_selection

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium, chromium-browser or google-chrome on PATH"),
]
DARK, LIGHT = 0, 1
EVIL = "<script>document.title='changed'</script><img src=x onerror=\"document.title='changed'\"></details>"
WriteReport = Callable[..., Path]


def chromium(tmp_path: Path, page: Path, *options: str) -> str:
    command = [
        str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--hide-scrollbars",
        "--disable-background-networking", "--disable-component-update", "--disable-sync",
        f"--user-data-dir={tmp_path / 'profile'}", *options, page.as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", timeout=120, check=True)
    return done.stdout


def framed(tmp_path: Path, page: Path, width: int, script: str = "") -> Path:
    """The page in a frame of a given width, for a window cannot be narrower than 500 pixels.

    The copy has no content policy, so that escaping alone must keep the answers' markup from running.
    """
    text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page.read_text(encoding="utf-8"))
    copy, frame = tmp_path / "copy.html", tmp_path / "frame.html"
    copy.write_text(text.replace("</body>", f"<script>{script}</script></body>"), encoding="utf-8")
    listener = "<script>onmessage = event => document.body.dataset.seen = event.data</script>"
    style = f"border:0;width:{width}px;height:3000px"
    frame.write_text(f"<body style='margin:0'>{listener}<iframe style='{style}' src='copy.html'>", encoding="utf-8")
    return frame


def evaluated(tmp_path: Path, page: Path, width: int, *what: str) -> list[str]:
    """What some expressions of JavaScript come to in the page at a width, with all its details open."""
    script = (
        "document.querySelectorAll('details').forEach(d => d.open = true);"
        "const root = document.documentElement;"
        f"parent.postMessage([{', '.join(what)}].join('|'), '*')"
    )
    frame = framed(tmp_path, page, width, script)
    dom = chromium(tmp_path, frame, f"--window-size={max(width, 500)},3000", "--virtual-time-budget=5000", "--dump-dom")
    match = re.search(r'data-seen="([^"]*)"', dom)
    assert match is not None
    return match[1].split("|")


def screenshot(tmp_path: Path, page: Path, width: int, scheme: int) -> np.ndarray:
    target = tmp_path / f"{width}-{scheme}.png"
    options = (f"--window-size={width},1500", f"--blink-settings=preferredColorScheme={scheme}")
    chromium(tmp_path, page, *options, f"--screenshot={target}")
    return np.asarray(matplotlib.image.imread(target))[..., :3]


@pytest.fixture
def page(five_arms: dict[str, Path], write_report: WriteReport, tmp_path: Path, answers: Any) -> Path:
    arms = five_arms | {"hostile": write_report("hostile", asr=0.5, rows=answers(0.5, 0.5, EVIL))}
    return render_comparison(arms, tmp_path / "out", title="A made-up story")


def test_the_browser_sees_the_page_as_it_was_meant(page: Path, tmp_path: Path, read_page: Any) -> None:
    dumped = tmp_path / "dumped.html"
    dumped.write_text(chromium(tmp_path, page, "--dump-dom"), encoding="utf-8")
    seen = read_page(dumped)
    assert seen.all("title")[0].text() == "A made-up story"
    for number in ("0.95", "[0.88, 1.00]", "0.41", "[0.34, 0.48]", "n=100", "n=50"):
        assert number in seen.all("table", class_="numbers")[0].text()
    assert len(seen.all("svg", class_="plot")) == 4
    assert all(svg.all("path") for svg in seen.all("svg"))
    assert len(seen.all("details")) == 6
    assert not [details for details in seen.all("details") if "open" in details.attributes]
    assert seen.all("script") == seen.all("img") == []
    assert EVIL in seen.text()


@pytest.mark.parametrize("width", [360, 1400])
def test_nothing_sticks_out_and_no_answer_runs(page: Path, tmp_path: Path, width: int) -> None:
    found = evaluated(tmp_path, page, width, "root.scrollWidth", "root.clientWidth", "document.title")
    assert found == [str(width), str(width), "A made-up story"]


@pytest.mark.parametrize("width", [360, 1400])
def test_the_page_of_gradients_fits(tmp_path: Path, width: int) -> None:
    page = render_gradients(write(tmp_path / "out", samples=samples(5)))
    assert evaluated(tmp_path, page, width, "root.scrollWidth", "root.clientWidth") == [str(width), str(width)]


def test_the_page_of_a_selection_fits_and_nothing_in_it_runs(tmp_path: Path) -> None:
    rows = [made_example(prompt=EVIL, answer=EVIL + "x" * 500)]
    data = {"name": f"data/{EVIL.replace('/', '')}", "sha256": "ab" * 32, "columns": []}
    report = made_selection(examples={name: rows for name in ("lowest", "kept_middle", "highest")}, data=data)
    marks = "document.querySelectorAll('svg.plot use').length"
    page = render_selection(report, tmp_path / "out")
    width, drawn, changed = evaluated(tmp_path, page, 360, "root.scrollWidth", marks, "document.title == 'changed'")
    assert (width, changed) == ("360", "false") and int(drawn) > len(report.found.points)


def test_it_follows_the_reader_s_colours_and_draws_the_plots(page: Path, tmp_path: Path) -> None:
    light, dark = (screenshot(tmp_path, page, 1400, scheme) for scheme in (LIGHT, DARK))
    assert np.median(light) > 0.9
    assert np.median(dark) < 0.2
    for picture, risk in ((light, (184, 57, 14)), (dark, (255, 138, 92))):
        marks = np.abs(picture * 255 - risk).max(axis=-1) < 3
        assert marks.sum() > 200
