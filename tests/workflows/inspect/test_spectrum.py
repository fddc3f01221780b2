import json

import pytest
import torch
from tests.adapters import save_adapter
from tests.tiny import save_tiny

from moored.errors import InputError, ModelError
from moored.huggingface.gradients.example_loss import example_loss
from moored.huggingface.models import ModelSource, load_model, load_tokenizer
from moored.recovery import PUBLISHED_PROMPT, PUBLISHED_REFUSAL
from moored.report.reading.record import read_record
from moored.report.reading.spectrum import SpectrumReport
from moored.workflows.inspect.example_gradients import complied_with, refused
from moored.workflows.inspect.spectrum import inspect_spectrum


@pytest.fixture
def source(tmp_path):
    base = save_tiny(tmp_path / "base")
    return ModelSource(str(base), save_adapter(tmp_path / "adapter", base=str(base)))


def _dense(model, losses):
    model.requires_grad_(True)
    model.zero_grad()
    (sum(loss() for loss in losses) / len(losses)).backward()
    return {name: each.grad.clone() for name, each in model.named_parameters()}


def test_the_numbers_are_those_of_the_whole_gradients(tmp_path, source):
    report = inspect_spectrum(source.path, adapter=source.adapter, out=tmp_path / "out", batch=3, top=2)
    assert json.loads((tmp_path / "out" / "report.json").read_text()) == report.to_dict()
    assert read_record(SpectrumReport, tmp_path / "out") == report
    model, tokenizer = load_model(source, merge=True), load_tokenizer(source)
    texts = {"batch": refused(3), "harmful": complied_with(3)}
    safe = _dense(model, [example_loss(model, tokenizer, PUBLISHED_PROMPT, PUBLISHED_REFUSAL)])
    batch, harmful = (
        _dense(model, [example_loss(model, tokenizer, *each) for each in texts[kind]]) for kind in ("batch", "harmful")
    )
    assert {row.name for row in report.matrices} == {n for n in safe if "layers" in n and safe[n].ndim == 2}
    for row in report.matrices:
        gradient, found = safe[row.name], row.example
        u, s, _ = torch.linalg.svd(gradient)
        assert found.singular_values == pytest.approx(s[: found.rank].tolist(), rel=2e-3)
        assert found.energy["2"] == pytest.approx((s[:2].square().sum() / s.square().sum()).item(), abs=1e-4)
        ub = torch.linalg.svd(batch[row.name]).U[:, :2]
        assert found.overlap == pytest.approx(((u[:, :2].T @ ub).square().sum() / 2).item(), abs=1e-3)
        cosine = torch.nn.functional.cosine_similarity(gradient.flatten(), harmful[row.name].flatten(), dim=0)
        assert found.cosine == pytest.approx(cosine.item(), abs=1e-4)
        assert row.chance == pytest.approx(2 / len(gradient))


def test_chance_is_of_as_many_directions_as_there_are(tmp_path, source):
    report = inspect_spectrum(source.path, out=tmp_path / "out", batch=2, top=1000, refusal="I cannot help.")
    shapes = {name: each.shape for name, each in load_model(source, merge=True).named_parameters()}
    for row in report.matrices:
        assert row.chance == pytest.approx(min(shapes[row.name]) / shapes[row.name][0])
    assert min(row.chance for row in report.matrices) < 1


def test_the_control_is_as_long_as_the_example(tmp_path, source):
    report = inspect_spectrum(source.path, out=tmp_path / "out", batch=2, refusal="I cannot help.")
    tokenizer = load_tokenizer(source)
    for kind in ("example", "benign"):
        example = getattr(report, kind)
        said = {"user": example.prompt, "assistant": example.answer}
        chat = [{"role": role, "content": text} for role, text in said.items()]
        ids = tokenizer.apply_chat_template(chat, return_dict=True)["input_ids"]
        assert len(ids) == report.example.tokens
    assert report.example.answer == "I cannot help." and report.benign.answer


def test_no_gradient_has_more_rank_than_its_example_has_tokens(tmp_path):
    """Of a model that is wider than the example is long."""
    wide = str(save_tiny(tmp_path / "wide", hidden_size=64))
    report = inspect_spectrum(wide, out=tmp_path / "out", batch=2, prompt="A?", refusal="No.")
    highest, tokens = max(row.example.rank for row in report.matrices), report.example.tokens
    assert tokens - 3 <= highest <= tokens < 64


def test_the_summary_is_the_quartiles_over_the_matrices(tmp_path, source):
    report = inspect_spectrum(source.path, out=tmp_path / "out", batch=2)
    for kind in ("example", "benign"):
        cosines = torch.tensor([getattr(row, kind).cosine for row in report.matrices], dtype=torch.float64)
        wanted = torch.quantile(cosines, torch.tensor([0.25, 0.5, 0.75], dtype=torch.float64))
        spread = getattr(report.summary, kind).cosine
        assert [spread.low, spread.median, spread.high] == pytest.approx(wanted.tolist())


def test_the_page_names_the_control_and_the_bound(tmp_path, source):
    inspect_spectrum(source.path, out=tmp_path / "out", batch=2)
    page = (tmp_path / "out" / "index.html").read_text()
    assert "benign example of equal length" in page and "no gradient can have a rank above" in page
    assert page.count("<svg") == 3


@pytest.mark.parametrize(
    ("settings", "error", "sentence"),
    [
        ({"batch": 1}, InputError, "batch must be at least 2, got 1"),
        ({"top": 0}, InputError, "top must be at least 1, got 0"),
        ({"refusal": "no " * 4000}, InputError, "No ordinary instruction has as many tokens"),
    ],
)
def test_settings_that_cannot_be_meant_leave_nothing(tmp_path, source, settings, error, sentence):
    with pytest.raises(error, match=sentence):
        inspect_spectrum(source.path, out=tmp_path / "out", **settings)
    assert not (tmp_path / "out").exists()


def test_a_model_without_a_chat_template_is_refused(tmp_path):
    base = save_tiny(tmp_path / "raw", chat_template=None)
    with pytest.raises(ModelError, match="no chat template"):
        inspect_spectrum(str(base), out=tmp_path / "out")
