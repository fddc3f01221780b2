import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

from moored.errors import InputError
from moored.huggingface.safeguards.rows import distribute, put_together, take_apart, unlabelled

LENGTHS = st.lists(st.integers(2, 9), min_size=1, max_size=8)
quick = settings(deadline=None, derandomize=True, max_examples=60)


def _examples(lengths):
    draw = torch.Generator().manual_seed(len(lengths))
    ids = [torch.randint(1, 99, (length,), generator=draw).tolist() for length in lengths]
    return [{"input_ids": each, "labels": [-100, *each[1:]]} for each in ids]


def _collate(examples, **settings):
    return DataCollatorForLanguageModeling(pad_token_id=0, **settings)(examples)


def _equal(one, other):
    assert one.keys() == other.keys()
    for key, value in one.items():
        same = torch.equal(value, other[key]) if isinstance(value, torch.Tensor) else value == other[key]
        assert same and getattr(value, "dtype", int) == getattr(other[key], "dtype", int), key


@pytest.mark.parametrize("packed", [False, True], ids=["padded", "packed"])
@quick
@given(lengths=LENGTHS, data=st.data())
def test_some_rows_make_the_batch_that_trl_would_make_of_them(packed, lengths, data):
    examples = _examples(lengths)
    chosen = data.draw(st.lists(st.sampled_from(range(len(lengths))), min_size=1, unique=True).map(sorted))
    batch = _collate(examples, padding_free=packed)
    rows = take_apart(batch)
    assert len(rows) == len(lengths)
    made = put_together([rows[index] for index in chosen], batch)
    _equal(made, _collate([examples[index] for index in chosen], padding_free=packed))


def test_padding_is_taken_off_on_either_side():
    (example,) = _examples([4])
    left = {
        "input_ids": torch.tensor([[0, 0, *example["input_ids"]]]),
        "labels": torch.tensor([[-100, -100, *example["labels"]]]),
        "attention_mask": torch.tensor([[0, 0, 1, 1, 1, 1]]),
    }
    (row,) = take_apart(left)
    assert {key: value.tolist() for key, value in row.items()} == {**example, "attention_mask": [1] * 4}


def test_columns_of_tokens_are_kept_whatever_they_are_called():
    more = {"token_type_ids": [[1, 1, 1], [1, 1, 0]], "position_ids": [[0, 1, 2], [0, 1, 0]]}
    batch = {**_collate(_examples([3, 2])), **{key: torch.tensor(value) for key, value in more.items()}}
    first, second = take_apart(batch)
    assert first["token_type_ids"].tolist() == [1, 1, 1] and second["token_type_ids"].tolist() == [1, 1]
    _equal(put_together([first, second], batch), batch)


@pytest.mark.parametrize(
    ("packed", "change", "sentence"),
    [
        (False, {"pixel_values": torch.zeros(2, 3, 4, 4)}, "hold pixel_values"),
        (False, {"attention_mask": torch.ones(2, 1, 3, 3)}, "hold attention_mask"),
        (True, {"token_type_ids": torch.zeros(1, 5)}, "hold token_type_ids"),
        (False, {"labels": None}, "hold no labels"),
        (False, {"input_ids": None}, "have no input_ids"),
    ],
)
def test_a_batch_that_cannot_be_taken_apart_is_refused(packed, change, sentence):
    batch = {**_collate(_examples([3, 2]), padding_free=packed), **change}
    batch = {key: value for key, value in batch.items() if value is not None}
    with pytest.raises(InputError, match=sentence):
        take_apart(batch)


@quick
@given(lengths=LENGTHS, cells=st.integers(1, 9))
def test_rows_are_spread_in_order_and_evenly(lengths, cells):
    rows = take_apart(_collate(_examples(lengths), padding_free=True))
    parts = distribute(rows, cells, by_length=False)
    assert [id(row) for part in parts for row in part] == [id(row) for row in rows]
    sizes = [len(part) for part in parts]
    assert len(sizes) == cells and max(sizes) - min(sizes) <= 1


@quick
@given(lengths=LENGTHS, cells=st.integers(1, 9))
def test_documents_are_spread_by_their_tokens(lengths, cells):
    rows = take_apart(_collate(_examples(lengths), padding_free=True))
    parts = distribute(rows, cells, by_length=True)
    assert [id(row) for part in parts for row in part] == [id(row) for row in rows]
    tokens = [sum(len(row["input_ids"]) for row in part) for part in parts]
    assert len(tokens) == cells and max(tokens) < sum(lengths) / cells + max(lengths)


def test_an_unlabelled_row_is_short_and_teaches_nothing():
    (row,) = take_apart(_collate(_examples([7])))
    short = unlabelled(row)
    assert short["input_ids"].tolist() == row["input_ids"].tolist()[:2]
    assert short["labels"].tolist() == [-100, -100] and short["attention_mask"].tolist() == [1, 1]
    assert row["labels"].tolist()[1:] == row["input_ids"].tolist()[1:], "the row itself is as it was"
