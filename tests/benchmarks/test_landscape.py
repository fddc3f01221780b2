"""The tables of `landscape.py`, of tiny models."""

from tests.tiny import save_tiny

from moored.workflows.inspect_basin import inspect_basin
from moored.workflows.inspect_spectrum import inspect_spectrum


def test_each_model_has_its_lengths_its_picture_and_its_findings(benchmark, tmp_path):
    landscape = benchmark("landscape")
    model = str(save_tiny(tmp_path / "model"))
    basin = inspect_basin(model, out=tmp_path / "basin", random=1, prompts=1, plane=False)
    spectrum = inspect_spectrum(model, out=tmp_path / "spectrum", batch=2)
    about = {"command": "landscape.py", "made": "2026-01-01", "versions": {"torch": "2"}}
    text = landscape.markdown({"repaired": basin}, {"repaired": spectrum}, about)
    assert (
        "on 1 harmful requests:" in text
        and "| repaired | harmful |" in text
        and "| repaired | ordinary |" in text
        and "random" not in text.split("##")[0]
    )
    assert (
        all(f"]({kind}-repaired.svg)" in text for kind in ("basin", "plane", "spectrum"))
        and "VISAGE over the random directions" in text
    )


def test_a_report_of_other_settings_or_weights_is_made_anew(benchmark, tmp_path, monkeypatch):
    landscape, seen = benchmark("landscape"), []

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
