import torch

from moored.selection import RULES, DrawingRule, GradientSelection, overlap, overlaps


def test_the_overlap_is_a_share_of_the_first():
    one, other = torch.tensor([0, 2, 5, 7]), torch.tensor([2, 7, 8])
    assert overlap(one, other) == 2 / 4
    assert overlap(other, one) == 2 / 3
    assert overlap(one, one) == 1
    assert overlap(one, torch.tensor([], dtype=torch.int64)) == 0


def _scores(count=200, *, empty=0):
    draw = torch.Generator().manual_seed(0)
    lengths = torch.randint(1, 90, (count,), generator=draw)
    lengths[:empty] = 0
    norms = torch.randn(count, generator=draw).exp()
    return torch.randn(count, generator=draw).abs(), norms, lengths


def test_every_other_rule_is_asked_at_the_same_share_and_seed():
    scores, chosen = _scores(), GradientSelection(rule="low", keep=0.25, seed=3)
    kept = chosen.make_rule()(*scores)
    found = overlaps(kept, chosen, *scores)
    assert [*found] == [name for name in RULES if name != "low"]
    for name, each in found.items():
        settings = {"seed": 3} if issubclass(RULES[name], DrawingRule) else {}
        other = RULES[name](keep=0.25, **settings)(*scores)
        assert (each.share, each.kept) == (overlap(kept, other), 50)
        assert each.as_dict().keys() == {"kept", "share", "chance", "chance_low", "chance_high"}
    assert found["high"].share == 0


def test_chance_is_what_random_choices_give():
    """Among the rows that can be kept, 3/4 of 200."""
    scores, chosen = _scores(empty=50), GradientSelection(rule="low", keep=0.25)
    kept = chosen.make_rule()(*scores)
    found = overlaps(kept, chosen, *scores)["random"]
    assert found.chance == 50 / 150
    draws = [overlap(kept, 50 + torch.randperm(150)[:50]) for _ in range(2000)]
    assert found.chance_low <= sum(draws) / 2000 <= found.chance_high
    inside = sum(found.chance_low <= draw <= found.chance_high for draw in draws) / 2000
    assert 0.94 < inside < 0.99


def test_all_rows_kept_overlap_wholly_but_for_empty_ones():
    scores, chosen = _scores(empty=50), GradientSelection(keep=1.0)
    found = overlaps(torch.arange(50, 200), chosen, *scores)
    assert {(each.share, each.chance, each.chance_low, each.kept) for each in found.values()} == {(1.0, 1.0, 1.0, 150)}
