"""One choice by itself, without a trainer: what the rule is handed, and the batches made of what it keeps."""

import pytest
import torch

from moored import GradientSelection
from moored.huggingface.safeguards.row_selection import ActiveRowSelection
from moored.huggingface.training.trainer import filled_fraction
from moored.selection import RULES


def _chosen(batches, keep, step=0):
    """The selection after it chose at random, and the batches it made."""
    running = ActiveRowSelection(GradientSelection(keep=keep, rule="random"), trainer=None, pool=None)
    return running, running.choose(batches, lambda batch: pytest.fail("random looks at nothing"), step)


def _packed(*lengths):
    """Documents one behind the other, all of their tokens labelled."""
    positions = torch.cat([torch.arange(length) for length in lengths])[None]
    return {"input_ids": positions + 5, "labels": positions + 5, "position_ids": positions}


def test_the_rule_is_handed_the_step_and_what_there_is_to_predict(monkeypatch):
    """The first token of a document is never predicted, and a single one is what fills up a row."""
    handed = []

    def choose(self, scores, count, step):
        handed.append((scores.lengths.tolist(), count, step))
        return torch.arange(count)

    monkeypatch.setattr(RULES["random"], "choose", choose)
    running, _ = _chosen([_packed(3, 5), _packed(4, 2, 1)], keep=0.4, step=7)
    assert handed == [([2, 4, 3, 1], 1, 7)] and running.report().rows == 4


def test_kept_documents_are_spread_by_their_tokens():
    _, made = _chosen([_packed(8), _packed(2, 2, 2, 2)], keep=1.0)
    assert [batch["input_ids"].numel() for batch in made] == [8, 8]


def test_a_row_without_any_token_does_not_stand_in_for_an_empty_batch():
    blank = {"input_ids": torch.zeros(2, 4, dtype=torch.long), "labels": torch.full((2, 4), -100)}
    full = {"input_ids": torch.full((2, 4), 5), "labels": torch.full((2, 4), 5)}
    batches = [
        {**full, "attention_mask": torch.ones(2, 4)},
        {**full, "attention_mask": torch.tensor([[0, 0, 0, 0], [1, 1, 1, 1]])},
        {**blank, "attention_mask": torch.tensor([[0, 0, 0, 0], [1, 1, 1, 0]])},
    ]
    _, chosen = _chosen(batches, keep=0.2)
    labelled = [bool((batch["labels"] != -100).any()) for batch in chosen]
    assert labelled.count(True) == 1 and filled_fraction(chosen) == 1 / 3
    assert all(batch["input_ids"].numel() for batch in chosen)
