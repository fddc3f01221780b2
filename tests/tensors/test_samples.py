import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from moored.tensors.samples import from_ids, one_a_row

ids = st.lists(st.integers(0, 5), min_size=1, max_size=40)


@settings(deadline=None)
@given(ids)
def test_blocks_hold_each_sample_in_order(of: list[int]):
    samples = from_ids(torch.tensor(of), count=5)
    flat = torch.arange(1, len(of) + 1)
    found = {}
    for block in samples.blocks:
        for sample, row in zip(block.samples.tolist(), block.arrange(flat).tolist(), strict=True):
            found[sample] = [value for value in row if value]
    expected = {sample: [at + 1 for at, own in enumerate(of) if own == sample] for sample in {*of} - {5}}
    assert found == expected


@settings(deadline=None)
@given(ids)
def test_little_is_filled_up(of: list[int]):
    samples = from_ids(torch.tensor(of), count=5)
    places = sum(block.filled.numel() for block in samples.blocks if block.filled is not None)
    assert places <= 2 * len(of)


@settings(deadline=None)
@given(ids)
def test_totals_and_positions_leave_out_what_belongs_to_no_sample(of: list[int]):
    samples = from_ids(torch.tensor(of), count=5)
    values = torch.arange(float(2 * len(of))).view(-1, 2)
    own = [[at for at, sample in enumerate(of) if sample == each] for each in range(5)]
    assert [each.tolist() for each in samples.positions()] == own
    assert samples.total(values).tolist() == [values[each].sum(0).tolist() for each in own]


def test_padded_rows_are_not_copied():
    samples = one_a_row(3, 4)
    flat = torch.randn(12, 5)
    (block,) = samples.blocks
    assert block.arrange(flat).data_ptr() == flat.data_ptr()
    assert samples.of.tolist() == [0] * 4 + [1] * 4 + [2] * 4


def test_totals_are_taken_in_fp32():
    values = torch.full((4096, 1), 1.001).bfloat16()
    total = one_a_row(1, 4096).total(values)
    assert total.dtype == torch.float32
    assert total.item() == values.double().sum().item()
