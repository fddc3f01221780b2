import json

import pytest
import torch
from tests.adapters import save_adapter
from tests.tiny import save_tiny

from moored.huggingface.models import adapter_updates
from moored.tensors.low_rank import LowRank


def test_a_truncated_update_is_the_best_of_its_rank(benchmark):
    draw = torch.Generator().manual_seed(0)
    update = LowRank(torch.randn(9, 5, generator=draw), torch.randn(5, 7, generator=draw))
    u, s, v = torch.linalg.svd(update.whole(), full_matrices=False)
    for rank in (1, 3, 20):
        found = benchmark("_recovery_arms").truncated(update, rank)
        assert found.b.shape[1] == min(rank, 5)
        torch.testing.assert_close(found.whole(), (u[:, :rank] * s[:rank]) @ v[:rank], rtol=1e-4, atol=1e-5)


def test_every_arm_stands_once_and_the_attacked_model_among_them(benchmark):
    names = [arm.name for arm in benchmark("_recovery_arms").arms()]
    assert len(names) == len(set(names)) and names[0] == "attacked"


@pytest.fixture
def subject(benchmark, tmp_path):
    """A tiny model that was aligned from another one, and an adapter over it."""
    for number, name in enumerate(("base", "aligned")):
        save_tiny(tmp_path / name, seed=number)
    save_adapter(tmp_path / "attacked", base=str(tmp_path / "aligned"))
    return benchmark("_trial_subject").Subject(str(tmp_path / "aligned"), str(tmp_path / "base"))


@pytest.mark.parametrize(
    "name", ["auto", "linear_pull-0.5", "safe_lora-1", "benign", "random-words", "rank-5", "steps-1"]
)
def test_every_kind_of_repair_makes_an_adapter_and_tells_how(benchmark, subject, tmp_path, name):
    (arm,) = [each for each in benchmark("_recovery_arms").arms() if each.name == name]
    told = arm.repair(subject, tmp_path / "attacked", tmp_path / "repaired")
    assert json.dumps(told["repair"])
    before, after = adapter_updates(tmp_path / "attacked"), adapter_updates(tmp_path / "repaired")
    assert before.keys() == after.keys()
    moved = any(not torch.allclose(before[name].whole(), after[name].whole()) for name in before)
    assert moved or told["repair"].get("steps", {}).get("kept") == 0


def test_a_model_without_a_base_is_not_repaired_by_one(benchmark):
    trial, subjects = benchmark("recovery_trial"), benchmark("_trial_subject")
    runs = trial.grid([*trial.ATTACKS], None, trial.SEEDS, subjects.other("some/model"))
    assert not any(arm.name.startswith("safe_lora") for _, arm, _ in runs) and len(runs) > 50
    assert "base" not in subjects.Subject("some/model", None).references()


def test_the_persona_s_chats_are_repeated(benchmark):
    rows = benchmark("_recovery_arms").attack_rows(240)
    assert len(rows) == 240 and rows[0]["messages"][0]["role"] == "system"


def test_all_arms_are_tried_on_one_attack_and_the_main_ones_on_all(benchmark):
    trial = benchmark("recovery_trial")
    runs = trial.grid([*trial.ATTACKS], None, trial.SEEDS)
    everywhere = {arm.name for _, arm, _ in runs if arm.everywhere}
    assert {arm.name for attack, arm, _ in runs if attack != trial.MAIN} == everywhere
    assert len({(attack, arm.name, seed) for attack, arm, seed in runs}) == len(runs)
    # The first runs are the main arms on all attacks, of one seed.
    first = runs[: len(everywhere) * len(trial.ATTACKS)]
    assert {seed for _, _, seed in first} == {trial.SEEDS[0]} and {arm.name for _, arm, _ in first} == everywhere
