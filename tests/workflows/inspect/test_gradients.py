"""`moored inspect gradients` on tiny models, its numbers against plainer computations."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from scipy import stats
from tests.adapters import save_adapter
from tests.tiny import KINDS, save_tiny
from tests.workflows.files import digests, write_rows
from torch import nn

from moored.embedded.model import aligned_adapter
from moored.errors import InputError, ModelError
from moored.files import read_jsonl
from moored.huggingface.data import Supervision, read_rows, supervise
from moored.huggingface.models import ModelSource, load_model, load_tokenizer
from moored.report.reading import record
from moored.report.reading.gradients import GradientsReport, read_gradients
from moored.workflows.inputs import models as _models
from moored.workflows.inspect import base_direction as comparison
from moored.workflows.inspect import gradients as workflow
from moored.workflows.inspect.gradients import inspect_gradients

WORDS = ["the", "weather", "is", "sunny", "today", "and", "tomorrow", "it", "will", "rain", "on", "us"]
ROWS = [{"prompt": f"Say {n}.", "completion": " ".join(WORDS[n % 7 : n % 7 + 1 + n % 5])} for n in range(14)]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A base, an aligned model that differs from it everywhere, rows, and where the report on them goes."""
    folder = tmp_path_factory.mktemp("files")
    base, aligned = save_tiny(folder / "base", seed=1), save_tiny(folder / "aligned", seed=0)
    data = write_rows(folder / "rows.jsonl", ROWS)
    return {"base": str(base), "aligned": str(aligned), "data": data, "out": str(folder / "out")}


def gradients_alone(source: ModelSource, data: str) -> list[dict[str, torch.Tensor]]:
    """Each row's gradient by each parameter, one ordinary backward pass a row, and its loss."""
    model: Any = load_model(source, trainable=True, merge=source.adapter is not None).eval()
    found = []
    for row in supervise(read_rows(data), Supervision(tokenizer=load_tokenizer(source)), where="rows"):
        ids, labels = (torch.tensor(row[key]) for key in ("input_ids", "labels"))
        loss = nn.functional.cross_entropy(model(input_ids=ids[None]).logits[0, :-1], labels[1:])
        loss.backward()
        found.append({name: each.grad for name, each in model.named_parameters()} | {"loss": loss.detach()})
        model.zero_grad(set_to_none=True)
    return found


@pytest.fixture(scope="module")
def report(files: dict[str, str]) -> GradientsReport:
    return inspect_gradients(
        files["aligned"], base=files["base"], data=files["data"], out=Path(files["out"]), top=50, batch_size=4
    )


@pytest.fixture
def lines(files: dict[str, str], report: Any) -> list[dict[str, Any]]:
    return read_jsonl(Path(files["out"]) / "samples.jsonl")


@pytest.fixture(scope="module")
def alone(files: dict[str, str]) -> list[dict[str, torch.Tensor]]:
    return gradients_alone(ModelSource(files["aligned"]), files["data"])


def test_its_numbers_are_those_of_a_loop_over_the_samples(report: Any, lines: Any, alone: Any):
    squares = [{name: each.square().sum().item() for name, each in row.items() if name != "loss"} for row in alone]
    norms = [sum(row.values()) ** 0.5 for row in squares]
    assert [line["norm"] for line in lines] == pytest.approx(norms, rel=1e-4)
    assert [line["loss"] for line in lines] == pytest.approx([row["loss"].item() for row in alone], rel=1e-4)
    rho = stats.spearmanr([line["length"] for line in lines], norms).statistic
    assert report.correlations.length.rho == pytest.approx(rho)
    kinds = {row.name: row.share for row in report.shares.kind}
    parts = [
        sum(share for name, share in row.items() if "up_proj" in name) / norm**2
        for row, norm in zip(squares, norms, strict=True)
    ]
    assert kinds["up"].mean == pytest.approx(sum(parts) / 14, rel=1e-4) and kinds["up"].n == 14
    for rows in (report.shares.kind, report.shares.layer):
        assert sum(row.share.mean for row in rows) == pytest.approx(1, rel=1e-5)
    assert [row.name for row in report.shares.layer] == ["outside", "0", "1"]
    assert report.shares.factor == []


def test_the_cosine_is_that_of_minus_the_gradient_with_base_minus_aligned(
    files: dict[str, str], report: Any, lines: Any, alone: Any
):
    base, aligned = (load_model(ModelSource(files[name])) for name in ("base", "aligned"))
    norms = [line["norm"] for line in lines]
    compared = report.base_direction
    assert compared.layers == [0, 1] and len(compared.matrices) == 14
    for matrix in compared.matrices:
        r = (base.get_parameter(matrix.name) - aligned.get_parameter(matrix.name)).detach().flatten()
        at = r.abs().topk(50).indices
        cosines = [torch.cosine_similarity(-row[matrix.name].flatten()[at], r[at], dim=0).item() for row in alone]
        assert matrix.cosines.groups["all"].mean == pytest.approx(sum(cosines) / 14, abs=1e-5)
        assert matrix.cosines.norm_cosine.rho == pytest.approx(stats.spearmanr(norms, cosines).statistic)
        low, high = matrix.cosines.control_means["all"]
        assert low < 0 < high
    means = [matrix.cosines.groups["all"].mean for matrix in compared.matrices]
    assert compared.together.groups["all"].mean == pytest.approx(sum(means) / 14)


def test_training_towards_the_base_has_a_positive_cosine(tmp_path: Path, files: dict[str, str], monkeypatch: Any):
    """A sample whose gradient *is* aligned − base: the update points straight at the base."""

    def led(model, rows, coordinates, **_):
        base = load_model(ModelSource(files["base"]))
        r = {name: (base.get_parameter(name) - model.get_parameter(name)).detach().flatten() for name in coordinates}
        return {name: -r[name][at].expand(len(rows), -1) for name, at in coordinates.items()}

    monkeypatch.setattr(comparison, "coordinate_gradients", led)
    report: Any = inspect_gradients(files["aligned"], base=files["base"], data=files["data"], out=tmp_path / "out")
    assert report.base_direction.together.groups["all"].mean == pytest.approx(1)


def test_the_groups_are_those_of_the_rules(report: Any, lines: Any):
    by_norm = sorted(lines, key=lambda line: line["norm"])
    assert [line for line in by_norm if "high" in line["groups"]] == by_norm[-2:]
    assert [line for line in by_norm if "low" in line["groups"]] == by_norm[:2]
    assert sum("moderate" in line["groups"] for line in lines) == 2
    cosine = report.base_direction.together.groups
    assert {name: mean.n for name, mean in cosine.items()} == {"all": 14, "high": 2, "moderate": 2, "low": 2}
    assert cosine["high"].mean == pytest.approx(sum(line["cosine"] for line in by_norm[-2:]) / 2)


def test_the_folder_holds_the_report(files: dict[str, str], report: Any, lines: Any):
    out = Path(files["out"])
    assert set(digests(out)) == {"report.json", "samples.jsonl", "index.html"}
    assert json.loads((out / "report.json").read_text()) == report.to_dict()
    assert read_gradients(out) == report
    assert lines == report.rows()


def test_without_a_folder_nothing_is_written(tmp_path: Path, files: dict[str, str], monkeypatch: Any):
    monkeypatch.chdir(tmp_path)
    assert inspect_gradients(files["aligned"], data=files["data"], limit=4).data.sampled == 4
    assert not list(tmp_path.iterdir())


def test_only_what_the_adapter_touched_is_compared(tmp_path: Path, files: dict[str, str]):
    adapter = save_adapter(tmp_path / "adapter", layers_to_transform=[1], target_modules=["v_proj", "up_proj"])
    report: Any = inspect_gradients(
        files["aligned"], adapter=adapter, base=files["aligned"], data=files["data"], out=tmp_path / "out"
    )
    compared = report.base_direction
    assert [matrix.name for matrix in compared.matrices] == [
        "model.layers.1.self_attn.v_proj.weight",
        "model.layers.1.mlp.up_proj.weight",
    ]
    assert compared.layers == [1]
    assert (compared.identical.matrices, compared.identical.layers) == (12, [0])
    page = re.sub(r"\s+", " ", (tmp_path / "out" / "index.html").read_text())
    assert "12 matrices are identical in both" in page


@pytest.mark.parametrize("kind", KINDS)
def test_without_a_base_that_part_is_left_out(tmp_path: Path, files: dict[str, str], kind: Any):
    model = save_tiny(tmp_path / kind, kind)
    report: Any = inspect_gradients(str(model), data=files["data"], out=tmp_path / "out", limit=5)
    assert report.base_direction is None and "--base" in report.not_compared
    assert report.not_compared in (tmp_path / "out" / "index.html").read_text()
    assert {line["cosine"] for line in read_jsonl(tmp_path / "out" / "samples.jsonl")} == {None}
    assert report.data.sampled == 5 and report.data.rows == 14


def test_a_new_lora_and_one_s_own(tmp_path: Path, files: dict[str, str]):
    common: Any = {"data": files["data"], "parameters": "lora", "limit": 6}
    new: Any = inspect_gradients(files["aligned"], base=files["base"], out=tmp_path / "new", **common)
    assert new.parameters.new_lora and "LoRA factors" in new.not_compared
    assert [(row.name, row.share.mean) for row in new.shares.factor] == [("A", 0), ("B", pytest.approx(1))]
    adapter = save_adapter(tmp_path / "adapter")
    own: Any = inspect_gradients(files["aligned"], adapter=adapter, out=tmp_path / "own", **common)
    assert not own.parameters.new_lora and own.shares.factor[0].share.mean > 0
    assert {row.name for row in own.shares.kind} == {"q", "v", "down"}
    again: Any = inspect_gradients(files["aligned"], out=tmp_path / "again", **common)
    assert again.scores == new.scores
    other: Any = inspect_gradients(files["aligned"], out=tmp_path / "other", **common, seed=1)
    assert other.scores != new.scores


def test_the_embedded_base_is_the_default_of_the_embedded_aligned_model():
    aligned = ModelSource("folder", aligned_adapter(), "embedded:aligned")
    assert _models.base_name(aligned, None) == "embedded:base"
    assert _models.base_name(aligned, "other") == "other"
    assert _models.base_name(ModelSource("folder"), None) is None


def test_the_seed_decides_which_rows_are_drawn(tmp_path: Path, files: dict[str, str]):
    def drawn(name: str, seed: int) -> list[int]:
        out = tmp_path / name
        inspect_gradients(files["aligned"], data=files["data"], out=out, limit=5, seed=seed)
        return [line["row"] for line in read_jsonl(out / "samples.jsonl")]

    first = drawn("first", 0)
    assert first == sorted(first) == drawn("again", 0) != drawn("other", 1)


def test_rows_without_an_answer_are_left_out_and_counted(tmp_path: Path, files: dict[str, str]):
    rows = [*ROWS[:3], {"prompt": "A very long question. " * 30, "completion": "Yes."}, *ROWS[3:5]]
    data = write_rows(tmp_path / "more.jsonl", rows)
    report: Any = inspect_gradients(files["aligned"], data=data, out=tmp_path / "out", max_length=60)
    assert (report.data.sampled, report.data.without_answer) == (5, 1)
    assert [line["row"] for line in read_jsonl(tmp_path / "out" / "samples.jsonl")] == [1, 2, 3, 5, 6]
    assert "nothing to learn: 1" in (tmp_path / "out" / "index.html").read_text()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"limit": 0}, "limit must be at least 1"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"top": 0}, "top must be at least 1"),
        ({"keep": 0.0}, "keep must be above 0 and at most 1"),
        ({"data": "absent.jsonl"}, "no file"),
        ({"max_length": 2}, "supervised token within --max-length 2"),
        ({"model": "absent/model"}, "Cannot load"),
        ({"base": "absent/model"}, "Cannot load"),
    ],
)
def test_what_cannot_be_done_is_one_sentence_and_leaves_nothing(
    tmp_path: Path, files: dict[str, str], changes: dict[str, Any], says: str
):
    given = {"model": files["aligned"], "data": files["data"], **changes}
    with pytest.raises((InputError, ModelError), match=says):
        inspect_gradients(given.pop("model"), out=tmp_path / "new" / "out", **given)
    assert not (tmp_path / "new").exists()


def test_a_base_with_an_adapter_or_equal_to_the_model_is_refused(tmp_path: Path, files: dict[str, str]):
    adapter = save_adapter(tmp_path / "adapter", base=files["base"])
    for base, says in ((str(adapter), "with an adapter"), (files["aligned"], "name the base before alignment")):
        with pytest.raises((InputError, ModelError), match=says):
            inspect_gradients(files["aligned"], base=base, data=files["data"], out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_not_empty_is_refused_before_any_work(tmp_path: Path, files: dict[str, str]):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="not empty"):
        inspect_gradients("absent/model", data=files["data"], out=tmp_path / "out")


def test_a_failure_at_the_end_leaves_nothing(tmp_path: Path, files: dict[str, str], monkeypatch: Any):
    def fail(folder: Path) -> Path:
        raise RuntimeError("broken page")

    monkeypatch.setitem(record._PAGES, GradientsReport, fail)
    with pytest.raises(RuntimeError, match="broken page"):
        inspect_gradients(files["aligned"], data=files["data"], out=tmp_path / "out", limit=4)
    assert not list(tmp_path.glob("*out*"))


def test_a_row_without_a_finite_gradient_is_named(tmp_path: Path, files: dict[str, str], monkeypatch: Any):
    scored = workflow.score_rows

    def broken(*arguments: Any, **settings: Any) -> Any:
        scores = scored(*arguments, **settings)
        scores.norms[2] = torch.nan
        return scores

    monkeypatch.setattr(workflow, "score_rows", broken)
    with pytest.raises(InputError, match="row 3: the loss or its gradient is not finite"):
        inspect_gradients(files["aligned"], data=files["data"], out=tmp_path / "out")
