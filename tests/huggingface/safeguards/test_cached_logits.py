"""A cache says what the model would say, to whatever company a document is in, and is refused where it would not."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.huggingface.gradients.models import ARRANGEMENTS, make, packed, padded, rows
from tests.huggingface.training.fixtures import THIRD_PARTY_WARNINGS
from tests.tiny import KINDS
from torch import Tensor

from moored.errors import InactiveError, InputError
from moored.huggingface.safeguards.cached_logits import cached_logits
from moored.huggingface.safeguards.guarded_logits import SalientHead
from moored.huggingface.safeguards.start_logits import StartLogits

pytestmark = THIRD_PARTY_WARNINGS
TOKENS = (300, 7, 12, 383, 0)
SAMPLES = rows((12, 9, 5, 11, 7, 12, 6))


def _anchor(model: Any = None, tokens: Any = TOKENS, *, first: int | None = None, **settings: Any) -> StartLogits:
    model = make("llama") if model is None else model
    return StartLogits(model, SalientHead(model, tokens, **settings), first=first)


def _batches(samples: Any = SAMPLES, arrangement: str = "right", size: int = 3) -> list[dict[str, Tensor]]:
    return [ARRANGEMENTS[arrangement](samples[at : at + size]) for at in range(0, len(samples), size)]


@pytest.mark.parametrize("first", [None, 2])
@pytest.mark.parametrize("lora", [True, False], ids=["lora", "full"])
@pytest.mark.parametrize("kind", KINDS)
def test_it_says_what_the_model_says_in_other_company(kind: str, lora: bool, first: int | None):
    anchor = _anchor(make(kind, lora=lora), first=first)
    cached = cached_logits(_batches(), anchor)
    assert len(cached) == len(SAMPLES)
    for arrangement in ARRANGEMENTS:
        for batch in _batches([*reversed(SAMPLES)], arrangement, size=4):
            torch.testing.assert_close(cached.of(batch), anchor.of(batch), rtol=1e-4, atol=1e-4)


def test_documents_that_were_packed_are_found_alone():
    anchor = _anchor()
    cached = cached_logits(_batches(arrangement="packed"), anchor)
    for batch in _batches(size=1):
        torch.testing.assert_close(cached.of(batch), anchor.of(batch), rtol=1e-4, atol=1e-4)


def test_what_was_learned_since_is_no_matter():
    model = make("llama")
    anchor = _anchor(model)
    batch, cached = padded(SAMPLES), cached_logits(_batches(), anchor)
    before = anchor.of(batch)
    with torch.no_grad():
        model.lm_head.weight.mul_(2)
    torch.testing.assert_close(cached.of(batch), before, rtol=1e-4, atol=1e-4)


def test_a_document_is_stored_once(tmp_path):
    anchor = _anchor()
    repeated = [SAMPLES[0], SAMPLES[1], SAMPLES[0], *SAMPLES, *SAMPLES]
    cached = cached_logits(_batches(repeated), anchor, tmp_path / "cache")
    assert len(cached) == len(SAMPLES)
    torch.testing.assert_close(cached.of(padded(repeated)), anchor.of(padded(repeated)), rtol=1e-4, atol=1e-4)
    positions = sum(len(ids) - 3 for ids, _ in SAMPLES)
    assert (tmp_path / "cache" / "logits.f32").stat().st_size == 4 * positions * len(TOKENS)


def test_documents_are_told_apart_by_what_is_guarded_in_them():
    ids, labels = SAMPLES[0]
    other = labels.clone()
    other[3:5] = -100
    anchor = _anchor()
    cached = cached_logits(_batches([(ids, labels), (ids, other)]), anchor)
    assert len(cached) == 2
    batch = padded([(ids, other)])
    torch.testing.assert_close(cached.of(batch), anchor.of(batch), rtol=1e-4, atol=1e-4)


def test_rows_with_nothing_to_learn_are_passed_over():
    ids, labels = SAMPLES[0]
    idle = (ids[:4], torch.full_like(labels[:4], -100))
    anchor = _anchor()
    cached = cached_logits(_batches([SAMPLES[0], idle, SAMPLES[1]]), anchor)
    assert len(cached) == 2
    assert cached.of(padded([idle])).shape == (0, len(TOKENS))
    batch = padded([idle, SAMPLES[1], idle, SAMPLES[0]])
    torch.testing.assert_close(cached.of(batch), anchor.of(batch), rtol=1e-4, atol=1e-4)


def test_nothing_to_guard_is_an_error(tmp_path):
    ids, labels = SAMPLES[0]
    with pytest.raises(InactiveError, match="No row of the training set"):
        cached_logits([padded([(ids, torch.full_like(labels, -100))])], _anchor(), tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_a_row_that_is_not_there_is_an_error():
    cached = cached_logits(_batches(SAMPLES[:2]), _anchor())
    with pytest.raises(InputError, match=r"lacks document 1 of a batch, .* set reference: model"):
        cached.of(padded([SAMPLES[1], SAMPLES[2]]))


def test_under_autocast():
    anchor = _anchor(make("qwen2"))
    with torch.autocast("cpu", torch.bfloat16):
        cached = cached_logits(_batches(), anchor)
        torch.testing.assert_close(cached.of(padded(SAMPLES)), anchor.of(padded(SAMPLES)), rtol=0.05, atol=0.05)
    assert cached.settings["dtype"] == "bfloat16"


def test_without_a_folder_no_file_stays(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    anchor = _anchor()
    cached = cached_logits(_batches(), anchor)
    assert not [*tmp_path.iterdir()]
    assert len(cached.of(padded(SAMPLES))) == len(anchor.of(padded(SAMPLES)))


@pytest.fixture
def folder(tmp_path) -> Path:
    """A cache of the samples."""
    cached_logits(_batches(), _anchor(first=3), tmp_path / "cache")
    return tmp_path / "cache"


class _Counting(StartLogits):
    calls = 0

    def of(self, batch: Any) -> Tensor:
        self.calls += 1
        return super().of(batch)


@pytest.mark.parametrize("samples", [SAMPLES, [*reversed(SAMPLES)], SAMPLES[2:5]], ids=["same", "shuffled", "fewer"])
@pytest.mark.parametrize("arrangement", ARRANGEMENTS)
def test_it_is_opened_again(folder, samples: Any, arrangement: str):
    before = {each.name: each.read_bytes() for each in folder.iterdir()}
    model = make("llama")
    anchor = _Counting(model, SalientHead(model, TOKENS), first=3)
    cached = cached_logits(_batches(samples, arrangement), anchor, folder)
    assert anchor.calls == 1, "only a few rows are computed, to compare"
    assert {each.name: each.read_bytes() for each in folder.iterdir()} == before
    torch.testing.assert_close(cached.of(padded(samples)), anchor.of(padded(samples)), rtol=1e-4, atol=1e-4)


def _moved(factor: float) -> Any:
    model = make("llama")
    with torch.no_grad():
        model.model.norm.weight.mul_(factor)
    return model


REFUSED = {
    "other weights": (lambda: _anchor(_moved(1.001), first=3), SAMPLES, "was made with other weights"),
    "other tokens": (lambda: _anchor(tokens=(1, 2, 3, 4, 5), first=3), SAMPLES, "is for other tokens"),
    "the whole vocabulary": (lambda: _anchor(tokens=None, first=3), SAMPLES, "is for other tokens"),
    "another first": (lambda: _anchor(first=2), SAMPLES, "was made with first 3, and this run has 2"),
    "centred": (lambda: _anchor(first=3, centred=True), SAMPLES, "with centred False, and this run has True"),
    "other rows": (lambda: _anchor(first=3), rows((10, 9)), "lacks rows of this training set"),
    "another precision": (
        lambda: _anchor(make("llama").to(torch.bfloat16), first=3),
        SAMPLES,
        "was made with dtype float32, and this run has bfloat16",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_cache_of_something_else_is_refused(folder, name: str):
    made, samples, sentence = REFUSED[name]
    before = {each.name: each.read_bytes() for each in folder.iterdir()}
    with pytest.raises(InputError, match=sentence) as raised:
        cached_logits(_batches(samples), made(), folder)
    assert str(folder) in str(raised.value) and "name another folder, or delete" in str(raised.value)
    assert {each.name: each.read_bytes() for each in folder.iterdir()} == before


def _cut(folder: Path) -> None:
    logits = folder / "logits.f32"
    logits.write_bytes(logits.read_bytes()[:-4])


def _mix(folder: Path) -> None:
    with np.load(folder / "index.npz") as index:
        np.savez(folder / "index.npz", keys=index["keys"][:-1], counts=index["counts"][:-1])


DAMAGES = {
    "cut logits": _cut,
    "no index": lambda folder: (folder / "index.npz").unlink(),
    "half an index": lambda folder: (folder / "index.npz").write_bytes((folder / "index.npz").read_bytes()[:50]),
    "no settings": lambda folder: (folder / "meta.json").write_text("{}"),
    "settings that are no JSON": lambda folder: (folder / "meta.json").write_text("x"),
    "another index": _mix,
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_cache_is_refused(folder, name: str):
    DAMAGES[name](folder)
    with pytest.raises(InputError, match=r"is incomplete|has an index that does not belong to it") as raised:
        cached_logits(_batches(), _anchor(first=3), folder)
    assert str(folder) in str(raised.value) and "delete it or name another folder" in str(raised.value)


def test_a_folder_that_holds_something_else_is_left_alone(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="not empty"):
        cached_logits(_batches(), _anchor(), tmp_path)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_nothing_is_left_behind_by_a_failure(tmp_path):
    def failing() -> Any:
        yield from _batches()[:1]
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        cached_logits(failing(), _anchor(), tmp_path / "deep" / "cache")
    assert not [*tmp_path.iterdir()]


def test_what_the_folder_says(folder):
    settings = json.loads((folder / "meta.json").read_text())
    digest = settings.pop("digest")
    assert len(digest) == 64
    assert settings == {"tokens": [*TOKENS], "size": 5, "first": 3, "centred": False, "dtype": "float32"}


def test_packed_batches_with_a_filled_up_end():
    batch = packed(SAMPLES[:3])
    filled = {
        key: torch.nn.functional.pad(value, (0, 3), value=-100 if key == "labels" else 0)
        for key, value in batch.items()
    }
    anchor = _anchor()
    cached = cached_logits([filled], anchor)
    assert len(cached) == 3
    torch.testing.assert_close(cached.of(filled), anchor.of(batch), rtol=1e-4, atol=1e-4)
