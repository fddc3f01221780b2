import pytest
from datasets import Dataset, concatenate_datasets

from moored.huggingface.data import largest_token, token_batches, tokens_hash

ROWS = [{"input_ids": [n] * n, "labels": [-100] * n} for n in range(1, 8)]


def _hash(rows):
    return tokens_hash(Dataset.from_list(rows))


def test_the_hash_is_of_the_rows_and_not_of_how_they_are_kept(monkeypatch):
    whole, first = Dataset.from_list(ROWS), _hash(ROWS)
    halves = concatenate_datasets([Dataset.from_list(ROWS[:4]), Dataset.from_list(ROWS[4:])])
    picked = Dataset.from_list([*ROWS[::-1], *ROWS]).select(range(7, 14))
    monkeypatch.setattr(token_batches, "_BATCH", 2)
    assert first == tokens_hash(whole) == tokens_hash(halves) == tokens_hash(picked)


@pytest.mark.parametrize(
    "other",
    [
        [*ROWS[1:], ROWS[0]],
        ROWS[:-1],
        [{"input_ids": [1, 2], "labels": [-100, -100]}, {"input_ids": [2], "labels": [-100]}, *ROWS[2:]],
        [{"input_ids": [1], "labels": [1]}, *ROWS[1:]],
    ],
)
def test_the_hash_tells_other_rows(other):
    assert _hash(other) != _hash(ROWS)


def test_the_largest_token_of_all_batches(monkeypatch):
    monkeypatch.setattr(token_batches, "_BATCH", 2)
    assert largest_token(Dataset.from_list([*ROWS, {"input_ids": [], "labels": []}, ROWS[0]])) == 7
    assert largest_token(Dataset.from_list(ROWS).select([])) == -1
