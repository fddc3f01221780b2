import json
from dataclasses import replace

import pytest
import torch
from tests.adapters import save_adapter
from tests.huggingface.gradients.models import make
from tests.tiny import save_tiny, tiny_tokenizer

from moored.errors import InputError, ModelError
from moored.huggingface.inference import continuation_log_probs
from moored.huggingface.models import ModelSource, load_model, load_tokenizer, refuse_stacked
from moored.huggingface.models.moved_weights import inner_weights
from moored.report import basin_findings
from moored.report.reading.basin import BasinReport, LengthRecord
from moored.report.reading.record import read_record
from moored.report.words.basin_findings import length
from moored.tensors.low_rank import squared_norm, whole
from moored.workflows.inspect import basin as workflow
from moored.workflows.inspect import directions, safety_score
from moored.workflows.inspect import points as grid_points
from moored.workflows.inspect.basin import inspect_basin
from moored.workflows.inspect.safety_score import SafetyScore
from moored.workflows.inspect.spectrum import inspect_spectrum

QUICK = {"random": 2, "prompts": 2}


@pytest.fixture
def models(tmp_path):
    """What alignment began with, and an adapter that aligned it."""
    base = save_tiny(tmp_path / "base")
    return str(base), save_adapter(tmp_path / "aligned", base=str(base))


def test_a_point_is_the_score_of_the_moved_model(tmp_path, models, monkeypatch):
    """Second computation: the merged model with its weights moved by hand."""
    base, adapter = models
    kept = {}
    safety = SafetyScore.__init__

    def keep(self, *arguments, **settings):
        safety(self, *arguments, **settings)
        kept["safety"] = self

    monkeypatch.setattr(SafetyScore, "__init__", keep)
    report = inspect_basin(str(adapter), base=base, out=tmp_path / "out", **QUICK)
    before = dict(load_model(ModelSource(base)).named_parameters())
    model = load_model(ModelSource(base, adapter), merge=True)
    inside = {n: w for n, w in model.named_parameters() if ".layers." in n and w.ndim == 2}
    difference = {name: weight.detach() - before[name].detach() for name, weight in inside.items()}
    norms = [sum(float(each.square().sum()) for each in group.values()) ** 0.5 for group in (inside, difference)]
    at = report.alphas.index(0.08)
    with torch.no_grad():
        for name, weight in inside.items():
            weight.add_(0.08 * norms[0] / norms[1] * difference[name])
    line = next(each for each in report.directions if each.name == "alignment")
    assert line.points[at] == pytest.approx(kept["safety"](model), rel=1e-3, abs=1e-6)


def test_lengths_are_measured_by_the_aligned_model_s_refusals(tmp_path, models, monkeypatch):
    """An attacked model that hardly refuses has nothing around it that is safe."""
    base, adapter = models
    said = iter([0.8, *[0.1] * 1000])
    monkeypatch.setattr(SafetyScore, "__call__", lambda self, model: {"log_odds": 0.0, "refusal": next(said)})
    report = inspect_basin(base, adapter=adapter, out=tmp_path / "out", against=base, plane=False, **QUICK)
    assert report.least == pytest.approx(0.4)
    assert all(each.length == LengthRecord(backwards=0.0, forwards=0.0) for each in report.directions)
    monkeypatch.setattr(SafetyScore, "__call__", lambda self, model: {"log_odds": 0.0, "refusal": 0.01})
    found = inspect_basin(base, out=tmp_path / "none", **QUICK)
    assert found.least == 0.05 and found.aligned_refusal == 0.01
    assert not any("WARNING" in each for each in basin_findings(report))
    assert "refuses with a probability of only 0.01" in basin_findings(found)[-1]


def test_the_aligned_model_s_own_words_count_as_refusals(tmp_path, models, monkeypatch):
    words = "I must say no to that, I'm afraid. It would hurt people, and I cannot help with it."
    monkeypatch.setattr(safety_score, "generate", lambda model, tokenizer, rendered, **_: [words for _ in rendered])
    base, _ = models
    model = load_model(ModelSource(base))
    safety = SafetyScore(load_tokenizer(ModelSource(base)), model, 2, full=False)
    assert "I must say" in safety._stems and "I'm sorry, but" in safety._stems


def test_each_gradient_direction_has_a_control_of_its_kind(tmp_path, models):
    """Shuffled rows keep the norm of each weight, and the ordinary step is another one than the harmful."""
    base, adapter = models
    loaded = load_model(ModelSource(base, adapter), merge=True)
    weights = inner_weights(loaded)
    found = directions.alignment_changes(ModelSource(base, adapter), base, weights, 0)
    for name, each in found["alignment"].items():
        torch.testing.assert_close(squared_norm(found["shuffled"][name]), squared_norm(each))
    tokenizer = load_tokenizer(ModelSource(base))
    steps = {name: directions.step(loaded, tokenizer, of(3)) for name, of in directions.STEPS.items()}
    assert steps["harmful"].keys() == steps["ordinary"].keys()
    assert not any(torch.equal(whole(steps["harmful"][name]), whole(each)) for name, each in steps["ordinary"].items())


def test_all_lines_and_the_plane_share_the_centre(tmp_path, models):
    base, adapter = models
    report = inspect_basin(str(adapter), base=base, out=tmp_path / "out", **QUICK)
    assert json.loads((tmp_path / "out" / "report.json").read_text()) == report.to_dict()
    assert read_record(BasinReport, tmp_path / "out") == report
    assert [each.name for each in report.directions] == [
        "alignment",
        "shuffled",
        "harmful",
        "ordinary",
        "random 0",
        "random 1",
    ]
    centres = [each.points[report.alphas.index(0.0)] for each in report.directions]
    plane = report.plane
    assert plane is not None
    across = plane.alphas
    middle = across.index(0.0)
    grid = plane.points
    assert all(each == centres[0] for each in centres) and grid[middle][middle] == pytest.approx(centres[0])
    lines = {each.name: each.points for each in report.directions}
    for number, alpha in enumerate(across):
        assert grid[middle][number] == pytest.approx(lines["alignment"][report.alphas.index(alpha)], rel=1e-4)
        assert grid[number][middle] == pytest.approx(lines["harmful"][report.alphas.index(alpha)], rel=1e-4)


def test_the_grid_halves_from_the_reach_on(tmp_path, models):
    base, adapter = models
    report = inspect_basin(str(adapter), base=base, out=tmp_path / "out", reach=0.001, **QUICK)
    sides = [0.001 / 2**power for power in range(9)]
    assert report.alphas == sorted([-each for each in sides] + [0.0] + sides)
    assert report.plane is not None and report.plane.alphas == sorted(
        [-each for each in sides[1:5]] + [0.0] + sides[1:5]
    )
    for reach in (0.0, -1.0, float("inf"), float("nan")):
        with pytest.raises(InputError, match="reach must be above 0 and below inf"):
            inspect_basin(str(adapter), base=base, out=tmp_path / "other", reach=reach)


def test_what_ends_between_the_model_and_the_first_point_is_said_to():
    alphas = [-0.2, -0.1, 0.0, 0.1, 0.2]
    words = [length(value, alphas) for value in (None, 0.0, 0.05, 0.1, 0.16)]
    assert words == ["beyond 0.2", "0", "below 0.1", "0.1", "0.16"]


def test_neighbouring_seeds_share_no_random_direction(tmp_path, models):
    lines = []
    for seed in (0, 1):
        report = inspect_basin(models[0], out=tmp_path / str(seed), prompts=1, random=2, plane=False, seed=seed)
        lines += [each.points for each in report.directions if each.name.startswith("random")]
    assert len(lines) == 4 and all(one != other for i, one in enumerate(lines) for other in lines[:i])


def test_the_harmful_direction_makes_compliance_likelier(tmp_path, models):
    base, _ = models
    report = inspect_basin(base, out=tmp_path / "out", **QUICK)
    harmful = next(each for each in report.directions if each.name == "harmful")
    near = [harmful.points[report.alphas.index(alpha)]["log_odds"] for alpha in (-0.01, 0.0, 0.01)]
    assert near[0] > near[1] > near[2]


def test_without_a_base_there_is_no_direction_of_alignment(tmp_path, models):
    report = inspect_basin(models[0], out=tmp_path / "out", **QUICK)
    assert report.plane is None and "alignment" not in {each.name for each in report.directions}
    assert "Without a base" in (tmp_path / "out" / "index.html").read_text()


def test_answers_are_judged_only_when_asked_for(tmp_path, models, monkeypatch):
    monkeypatch.setattr(grid_points, "_LINE", 1)
    said = iter(["Sure, here it is.", "I'm sorry, but I can't help with that."] * 100)
    monkeypatch.setattr(
        safety_score, "generate", lambda model, tokenizer, rendered, **_: [next(said) for _ in rendered]
    )
    report = inspect_basin(models[0], out=tmp_path / "full", full=True, reach=0.01, **QUICK)
    points = [point for each in report.directions for point in each.points]
    assert {(point["asr"], point["refused"], point["incoherent"]) for point in points} == {(0.5, 0.5, 0.0)}
    assert report.visage["asr"] == pytest.approx(50.0)
    assert report.aligned_refused == 0.5 and report.least_refused == 0.25
    assert all(each.length_by_answers == LengthRecord(backwards=None, forwards=None) for each in report.directions)
    assert "until less than 0.25 of the answers are refusals: along the harmful" in " ".join(basin_findings(report))
    assert "By answers, forwards" in (tmp_path / "full" / "index.html").read_text()
    quick = inspect_basin(models[0], out=tmp_path / "quick", **QUICK)
    assert "asr" not in quick.visage and "asr" not in quick.directions[0].points[0]
    assert quick.directions[0].length_by_answers is None and "of the answers" not in " ".join(basin_findings(quick))


def test_broken_answers_are_no_refusals(tmp_path, models, monkeypatch):
    """Where answers break off the share of refusals falls, and the attack success rate does not rise."""
    monkeypatch.setattr(grid_points, "_LINE", 1)
    said = iter(["I'm sorry, but I can't help with that."] * 5 * QUICK["prompts"])
    monkeypatch.setattr(
        safety_score, "generate", lambda model, tokenizer, rendered, **_: [next(said, "") for _ in rendered]
    )
    report = inspect_basin(models[0], out=tmp_path / "full", full=True, reach=0.01, **QUICK)
    last = report.directions[-1]
    assert last.points[0]["asr"] == 0.0 and last.points[0]["incoherent"] == 1.0
    assert last.length_by_answers is not None and last.length_by_answers.backwards == pytest.approx(0.005)
    assert "to look closer" not in " ".join(basin_findings(report))
    near = replace(last, length=LengthRecord(backwards=None, forwards=0.005))
    coarse = replace(report, directions=[*report.directions[:-1], near])
    assert "use `--reach 0.01` to look closer." in " ".join(basin_findings(coarse))


def test_a_model_of_stacked_experts_is_refused(tmp_path):
    """Of its layers only the attention would be moved, without a word."""
    make("mixtral").save_pretrained(tmp_path / "model")
    tiny_tokenizer().save_pretrained(tmp_path / "model")
    for look in (inspect_basin, inspect_spectrum):
        with pytest.raises(ModelError, match=r"experts.* has 3 axes, as stacked experts have"):
            look(str(tmp_path / "model"), out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_short_kernels_of_convolutions_are_no_experts():
    advice = "take a dense model"
    refuse_stacked("model.layers.0.conv1d.weight", torch.zeros(64, 1, 4), advice)
    refuse_stacked("model.layers.0.conv1d.weight", torch.zeros(64, 64, 4), advice)
    refuse_stacked("vision.embed.weight", torch.zeros(8, 64, 64), advice)
    with pytest.raises(ModelError, match=r"layers\.0\.experts has 3 axes.*; take a dense model\."):
        refuse_stacked("model.layers.0.experts", torch.zeros(4, 16, 8), advice)


def test_the_model_is_as_it_was_after_an_interruption(tmp_path, models, monkeypatch):
    loaded = {}
    load, calls = workflow.load_model, []

    def keep(*arguments, **settings):
        loaded["model"] = load(*arguments, **settings)
        loaded["before"] = {name: each.clone() for name, each in loaded["model"].state_dict().items()}
        return loaded["model"]

    def interrupt(*arguments, **settings):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return continuation_log_probs(*arguments, **settings)

    monkeypatch.setattr(workflow, "load_model", keep)
    monkeypatch.setattr(safety_score, "continuation_log_probs", interrupt)
    with pytest.raises(KeyboardInterrupt):
        inspect_basin(models[0], out=tmp_path / "out", **QUICK)
    assert all(each.equal(loaded["before"][name]) for name, each in loaded["model"].state_dict().items())
    assert not (tmp_path / "out").exists()


def test_the_page_shows_lines_and_plane(tmp_path, models):
    base, adapter = models
    inspect_basin(str(adapter), base=base, out=tmp_path / "out", **QUICK)
    page = (tmp_path / "out" / "index.html").read_text()
    assert page.count("<svg") == 3 and "VISAGE" in page and "Both directions at once" in page


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"random": 0}, "random must be at least 1"),
        ({"prompts": 0}, "prompts must be at least 1"),
        ({"kept": 0.0}, "kept must be above 0 and below 1"),
        ({"kept": 1.0}, "kept must be above 0 and below 1"),
    ],
)
def test_settings_that_cannot_be_meant_leave_nothing(tmp_path, models, settings, sentence):
    with pytest.raises(InputError, match=sentence):
        inspect_basin(models[0], out=tmp_path / "out", **settings)
    assert not (tmp_path / "out").exists()


def test_without_a_folder_nothing_is_written(tmp_path, models, monkeypatch):
    before = sorted(tmp_path.iterdir())
    monkeypatch.chdir(tmp_path)
    rows = inspect_basin(models[0], random=1, prompts=1, plane=False).rows()
    assert [row["direction"] for row in rows] == ["harmful", "ordinary", "random 0"]
    assert sorted(tmp_path.iterdir()) == before
