import pytest
import torch
from datasets import Dataset
from peft import LoraConfig, PeftModel, get_peft_model
from tests.adapters import save_adapter
from tests.huggingface.training.fixtures import token_rows
from tests.tiny import save_tiny, tiny_model

from moored.errors import InputError
from moored.huggingface.gradients import dataset as shared
from moored.huggingface.gradients.dataset_scores import score_chunk
from moored.huggingface.gradients.scored_model import scored_model
from moored.huggingface.models import ModelSource

PLACE = {"where": "rows.jsonl", "first": 101}


def alone(model, row, length=10**6):
    """Loss and gradient norm of one row, by a plain backward pass of its own."""
    model.zero_grad()
    ids, labels = (torch.tensor([row[name][:length]]) for name in ("input_ids", "labels"))
    loss = torch.nn.functional.cross_entropy(model(input_ids=ids).logits[0, :-1], labels[0, 1:])
    loss.backward()
    squares = [p.grad.square().sum() for p in model.parameters() if p.grad is not None]
    return loss.item(), sum(squares).sqrt().item()


@pytest.mark.parametrize("batch_size", [1, 4, 100])
@pytest.mark.parametrize("max_length", [8, 100])
def test_rows_score_as_each_alone_whatever_their_batch(batch_size, max_length):
    model, rows = tiny_model(), token_rows(9)
    done = []
    found = score_chunk(model, rows, max_length=max_length, batch_size=batch_size, progress=done.append, **PLACE)
    losses, norms = zip(*(alone(model, row, max_length) for row in rows), strict=True)
    torch.testing.assert_close(found.losses, torch.tensor(losses), rtol=1e-4, atol=0)
    torch.testing.assert_close(found.norms, torch.tensor(norms), rtol=1e-4, atol=0)
    assert found.lengths.tolist() == [min(len(row["labels"]), max_length) - 2 for row in rows]
    assert found.cut.tolist() == [len(row["labels"]) > max_length for row in rows]
    assert sum(done) == 9 and max(done) <= batch_size


def test_rows_without_a_supervised_token_have_no_score():
    """The first token is never predicted, and what is cut off is not learned."""
    ids = [[5, 6, 7, 8, 9], [5, 6], [5], [5, 6, 7, 8, 9], []]
    labels = [[-100, -100, -100, -100, 9], [5, -100], [5], [-100, 6, 7, 8, 9], []]
    rows = Dataset.from_dict({"input_ids": ids, "labels": labels})
    found = score_chunk(tiny_model(), rows, max_length=4, batch_size=2, **PLACE)
    assert found.lengths.tolist() == [0, 0, 0, 3, 0]
    assert found.losses.isnan().tolist() == found.norms.isnan().tolist() == [True, True, True, False, True]


def test_rows_of_like_length_share_a_batch_the_longest_first(monkeypatch):
    seen, score = [], shared.score
    monkeypatch.setattr(
        shared, "score", lambda model, batch, **k: seen.append(batch["input_ids"].shape) or score(model, batch, **k)
    )
    rows = token_rows(9)
    score_chunk(tiny_model(), rows, max_length=100, batch_size=3, **PLACE)
    lengths = sorted((len(row["input_ids"]) for row in rows), reverse=True)
    assert [tuple(shape) for shape in seen] == [(3, lengths[0]), (3, lengths[3]), (3, lengths[6])]


def test_a_score_that_is_no_number_names_the_row():
    model = tiny_model()
    with torch.no_grad():
        model.get_input_embeddings().weight[5] = float("nan")
    rows = Dataset.from_dict({"input_ids": [[6, 7, 8], [7, 5, 8]], "labels": [[-100, 7, 8]] * 2})
    with pytest.raises(InputError, match=r"^Row 102 of rows.jsonl has a loss of nan and a gradient norm of nan"):
        score_chunk(model, rows, max_length=9, batch_size=2, **PLACE)


def test_all_weights_are_scored_with_the_adapter_folded_in(tmp_path):
    base, adapter = save_tiny(tmp_path / "base"), save_adapter(tmp_path / "adapter")
    model = scored_model(ModelSource(str(base), adapter), "all")
    folded = PeftModel.from_pretrained(tiny_model(), adapter).merge_and_unload().requires_grad_(True)
    row = token_rows(1)[0]
    assert not isinstance(model, PeftModel)
    assert alone(model, row) == pytest.approx(alone(folded, row), rel=1e-4)
    assert alone(model, row)[0] != pytest.approx(alone(tiny_model(), row)[0], rel=1e-2)


@pytest.mark.parametrize("with_adapter", [False, True])
def test_a_new_lora_is_always_drawn_alike_and_only_b_has_a_gradient(tmp_path, with_adapter):
    adapter = save_adapter(tmp_path / "adapter") if with_adapter else None
    source = ModelSource(str(save_tiny(tmp_path / "base")), adapter)
    torch.manual_seed(1)
    model, again = scored_model(source, "lora"), scored_model(source, "lora")
    rows = token_rows(3)
    one, two = (score_chunk(each, rows, max_length=99, batch_size=2, **PLACE) for each in (model, again))
    assert torch.equal(one.norms, two.norms)
    start = tiny_model() if adapter is None else PeftModel.from_pretrained(tiny_model(), adapter).merge_and_unload()
    torch.manual_seed(0)
    plain = get_peft_model(start, LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM"))
    torch.testing.assert_close(one.norms, torch.tensor([alone(plain, row)[1] for row in rows]), rtol=1e-4, atol=0)
    moved = {name.split(".")[-3] for name, p in plain.named_parameters() if p.grad is not None and p.grad.any()}
    assert moved == {"lora_B"} and len([n for n, p in model.named_parameters() if p.requires_grad]) == 2 * 14
