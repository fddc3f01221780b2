import pytest
import torch
from tests.huggingface.gradients.models import alone, assert_equal, make, rows

from moored.huggingface.gradients import score_rows


def as_lists(samples):
    return [{"input_ids": ids.tolist(), "labels": labels.tolist()} for ids, labels in samples]


@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_rows_come_back_in_their_order_whatever_the_batches(batch_size):
    model, samples, done = make("gemma"), rows((12, 5, 9, 11, 6, 13, 7)), []
    found = score_rows(
        model, as_lists(samples), batch_size=batch_size, max_length=64, by_parameter=True, advance=done.append
    )
    assert_equal(found, alone(model, samples))
    assert found.lengths.tolist() == [9, 2, 6, 8, 3, 10, 4] and sum(done) == 7
    assert found.squares is not None
    torch.testing.assert_close(torch.stack([*found.squares.values()]).sum(0), found.norms.square())


def test_rows_are_cut():
    model, samples = make("llama"), rows((12, 9))
    found = score_rows(model, as_lists(samples), batch_size=2, max_length=8)
    assert_equal(found, alone(model, [(ids[:8], labels[:8]) for ids, labels in samples]))
    assert found.squares is None
