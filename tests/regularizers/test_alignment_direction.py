"""The formula alone; in a trainer: tests/huggingface/training/test_alignment_direction.py."""

import pytest
import torch

from moored.errors import InputError
from moored.regularizers import AlignmentDirection, UpdateNorm
from moored.tensors.low_rank import LowRank

EXACT = {"precision": "float32"}


def test_the_control_has_the_same_norm_and_singular_values_but_another_direction():
    torch.manual_seed(0)
    d = torch.randn(12, 5)
    real = AlignmentDirection(base="?", **EXACT).guide(d, "w")
    guides = [AlignmentDirection(base="?", direction="random", seed=seed, **EXACT).guide(d, "w") for seed in (0, 0, 1)]
    assert torch.equal(guides[0].factor, guides[1].factor) and not torch.equal(guides[0].factor, guides[2].factor)
    for guide in guides:
        assert guide.norm == pytest.approx(real.norm)
        torch.testing.assert_close(torch.linalg.svdvals(guide.factor), torch.linalg.svdvals(real.factor))
        assert abs((_factor(guide) * _factor(real)).sum()) < 0.7 * _factor(real).square().sum()


def _factor(guide):
    assert guide.factor is not None
    return guide.factor


def test_a_direction_in_bf16_is_within_its_precision():
    torch.manual_seed(0)
    d, update = torch.randn(64, 48), torch.randn(64, 48)
    for form in ({}, {"form": "projector", "rank": 4}, {"form": "flattened"}):
        exact, coarse = (AlignmentDirection(base="?", precision=each, **form) for each in ("float32", "bfloat16"))
        values = [float(each.weight_penalty(update, each.guide(d, "w"))) for each in (exact, coarse)]
        assert values[1] == pytest.approx(values[0], rel=0.01) and values[0] != values[1]


@pytest.mark.parametrize("form", [{}, {"form": "projector", "rank": 4}, {"form": "flattened"}])
@pytest.mark.parametrize("thin", [False, True])
def test_an_offloaded_direction_changes_nothing_and_comes_to_the_device_of_the_update(form, thin):
    torch.manual_seed(0)
    d = LowRank(torch.randn(64, 8), torch.randn(8, 48)) if thin else torch.randn(64, 48)
    update = LowRank(torch.randn(64, 4), torch.randn(4, 48))
    here, away = (AlignmentDirection(base="?", offload=each, **form) for each in (False, True))
    guide = away.guide(d, "w")
    assert torch.equal(away.weight_penalty(update, guide), here.weight_penalty(update, here.guide(d, "w")))
    elsewhere = LowRank(update.b.to("meta"), update.a.to("meta"))
    assert away.weight_penalty(elsewhere, guide).is_meta


def test_the_flattened_form_in_bf16_is_exact_where_little_leaves_the_direction():
    torch.manual_seed(0)
    d = torch.randn(256, 256)
    update = d + 0.05 * torch.randn_like(d)
    values = []
    for precision in ("float32", "bfloat16"):
        penalty = AlignmentDirection(base="?", form="flattened", precision=precision)
        values.append(float(penalty.weight_penalty(update, penalty.guide(d, "w"))))
    assert values[1] == pytest.approx(values[0], rel=0.02)


def test_a_large_eigenvalue_is_warned_of():
    penalty = AlignmentDirection(base="?", **EXACT)
    flat, peaked = torch.eye(8), torch.ones(8, 1) @ torch.ones(1, 8)
    told = penalty.describe({"flat": penalty.guide(flat, "flat"), "still": penalty.guide(torch.zeros(8, 8), "still")})
    assert "follows aligned − base in 1 of them; in the other 1 the two are equal" in told and "WARNING" not in told
    assert "largest eigenvalue of its operator Ĉ is 0.35 (flat)" in told
    told = penalty.describe({"flat": penalty.guide(flat, "flat"), "peaked": penalty.guide(peaked, "peaked")})
    assert "WARNING: the largest eigenvalue of its operator Ĉ is 8.00 (peaked), and above 2 in 1 weights" in told
    drawn = AlignmentDirection(base="?", direction="random", **EXACT).describe({"w": penalty.guide(peaked, "w")})
    assert "follows a random direction like aligned − base in 1 of them" in drawn and "WARNING" not in drawn
    along, off = torch.ones(8, 1), torch.tensor([[1.0], [-1.0], *[[0.0]] * 6])
    guide = penalty.guide(peaked, "peaked")
    assert penalty.weight_penalty(along, guide) / along.square().sum() > penalty.weight_penalty(off, guide) / 2
    kept = AlignmentDirection(base="?", form="projector", rank=2, **EXACT)
    assert "the 2 directions kept hold at least 25% of what alignment changed there" in kept.describe(
        {"flat": kept.guide(flat, "flat")}
    )


def test_without_a_direction_it_is_the_plain_norm():
    torch.manual_seed(1)
    update, penalty = torch.randn(4, 3), AlignmentDirection(base="?", **EXACT)
    for form in ({}, {"form": "flattened"}, {"form": "projector", "rank": 2}):
        penalty = AlignmentDirection(base="?", **form, **EXACT)
        assert penalty.weight_penalty(update, penalty.guide(torch.zeros(4, 3), "w")) == UpdateNorm(
            strength=1.0
        ).weight_penalty(update)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"base": None}, "needs base, the checkpoint that the model was aligned from"),
        ({"form": "projector"}, "form: projector needs rank"),
        ({"rank": 0}, "cannot have rank 0 with form: published"),
        ({"rank": 2, "form": "flattened"}, "cannot have rank 2 with form: flattened"),
    ],
)
def test_settings_that_exclude_each_other_are_refused(settings, sentence):
    with pytest.raises(InputError, match=sentence):
        AlignmentDirection(**{"base": "x", **settings})
