"""The tables of `landscape.py`, of tiny models."""

import json

from tests.tiny import save_tiny

from benchmarks.validity import landscape
from moored.workflows.inspect.basin import inspect_basin
from moored.workflows.inspect.spectrum import inspect_spectrum


def test_each_model_has_its_lengths_its_pictures_and_its_findings(tmp_path):
    model, base = str(save_tiny(tmp_path / "model")), str(save_tiny(tmp_path / "base", seed=1))
    basin = inspect_basin(model, base=base, out=tmp_path / "basin", random=1, prompts=1)
    spectrum = inspect_spectrum(model, out=tmp_path / "spectrum", batch=2)
    about = {"command": "landscape.py", "made": "2026-01-01", "versions": {"torch": "2"}}
    near = inspect_basin(model, base=base, out=tmp_path / "near", random=1, prompts=1, plane=False, reach=0.001)
    landscape.write(tmp_path / "out", *({"repaired": each} for each in (basin, near, spectrum)), about)
    text = (tmp_path / "out" / "table.md").read_text()
    assert (
        "on 1 harmful requests:" in text
        and "| repaired | harmful |" in text
        and "| repaired | ordinary |" in text
        and "random" not in text.split("##")[0]
    )
    assert "VISAGE over the random directions" in text
    figures = {file.name for file in (tmp_path / "out").glob("*.svg")}
    assert figures == {f"{kind}-repaired.svg" for kind in ("basin", "near", "log-odds", "plane", "spectrum")}
    assert all(f"]({name})" in text for name in figures)
    assert "Cumulative energy" in (tmp_path / "out" / "spectrum-repaired.svg").read_text()
    table = json.loads((tmp_path / "out" / "table.json").read_text())
    made = table["basins"]["repaired"], table["near"]["repaired"], table["spectra"]["repaired"]
    for row, report in zip(made, (basin, near, spectrum), strict=True):
        assert row == {key: value for key, value in report.to_dict().items() if key in row}
        assert report.to_dict().keys() - row.keys() <= {*landscape._OWN}


def test_a_report_of_other_settings_or_weights_is_made_anew(tmp_path, monkeypatch):
    seen = []

    def look(model, *, adapter, out, console, **settings):
        seen.append(settings)
        out.mkdir(parents=True)
        (out / "report.json").write_text("{}")

    monkeypatch.setattr(landscape, "weights_hash", lambda source: "weights")
    for random in (1, 1, 2):
        landscape.looked_at(tmp_path / "basin", look, None, random=random)
    monkeypatch.setattr(landscape, "weights_hash", lambda source: "others")
    landscape.looked_at(tmp_path / "basin", look, None, random=2)
    assert seen == [{"random": 1}, {"random": 2}, {"random": 2}]
