import json
from dataclasses import replace

import pytest
import torch
from tests.adapters import save_adapter
from tests.tiny import save_tiny, tiny_tokenizer

from benchmarks.trials import recovery as trial
from benchmarks.trials import recovery_arms as arms
from benchmarks.trials import subject as subjects
from moored.embedded.model import ALIGNED
from moored.huggingface.models import StoredWeights, adapter_updates, load_model, load_tokenizer
from moored.recovery import OneShot
from moored.workflows.inputs import example_pool as _example_pool
from moored.workflows.inputs.example_pool import own_refusals
from moored.workflows.inputs.models import resolve_model


@pytest.fixture
def damaged(tmp_path):
    """A tiny model that was aligned from another one, and an adapter over it."""
    for number, name in enumerate(("base", "aligned")):
        save_tiny(tmp_path / name, seed=number)
    save_adapter(tmp_path / "attacked", base=str(tmp_path / "aligned"))
    subject = subjects.Subject(str(tmp_path / "aligned"), str(tmp_path / "base"))
    return arms.Damaged(subject, tmp_path / "attacked", seed=1)


def _arm(name):
    (arm,) = [each for each in arms.arms() if each.name == name]
    return arm


def test_every_arm_stands_once_and_the_attacked_model_among_them():
    names = [arm.name for arm in arms.arms()]
    assert len(names) == len(set(names)) and names[0] == "attacked"


@pytest.mark.parametrize(
    "name",
    [
        *("auto", "adapter", "linear_pull-0.5", "safe_lora-1", "watched", "auto-privacy"),
        *("benign", "random-words", "benign-small", "random-words-small"),
    ],
)
def test_every_kind_of_repair_makes_an_adapter_and_tells_how(damaged, tmp_path, name):
    told = _arm(name).repair(damaged, tmp_path / "repaired")
    assert json.dumps(told["repair"])
    before, after = adapter_updates(damaged.adapter), adapter_updates(tmp_path / "repaired")
    assert before.keys() == after.keys()
    moved = any(not torch.equal(before[name].whole(), after[name].whole()) for name in before)
    kept = told["repair"].get("steps", {"kept": "inactive" not in told["repair"]})["kept"]
    assert moved == bool(kept)


def test_controls_and_examples_of_a_kind_are_others_under_each_seed(damaged, tmp_path):
    for name in ("benign", "random-words", "auto-privacy"):
        arm = _arm(name)
        methods = [
            arm.repair(replace(damaged, seed=seed), tmp_path / f"{name}{seed}")["repair"]["method"] for seed in (0, 1)
        ]
        assert methods[0] != methods[1]


def test_small_controls_learn_what_the_others_do_at_the_rate_and_for_the_steps_of_auto(damaged, tmp_path):
    for name in ("benign", "random-words"):
        fitted, small = (_arm(each).repair(damaged, tmp_path / each)["repair"] for each in (name, f"{name}-small"))
        assert fitted["method"]["refusal"] == small["method"]["refusal"]
        assert small["method"]["learning_rate"] == 2e-4 and small["steps"]["kept"] == 7


def test_the_arm_auto_is_that_preset():
    assert OneShot(**arms.AUTO) == OneShot.preset("auto", refusal=arms.OWN)


def test_what_the_embedded_model_is_said_to_answer_it_answers():
    source = resolve_model(ALIGNED)
    model, tokenizer = load_model(source, merge=True), load_tokenizer(source)
    assert own_refusals(model, tokenizer, [OneShot.prompt]) == [arms.OWN]


@pytest.mark.parametrize("name", ["auto", "full-auto"])
def test_another_model_is_asked_how_it_refuses(damaged, tmp_path, monkeypatch, name):
    monkeypatch.setattr(_example_pool, "generate", lambda *_, **__: ["I cannot help with that."])
    other = replace(damaged, subject=replace(damaged.subject, refusal=None))
    told = _arm(name).repair(other, tmp_path / "run" / "repaired")
    assert told["repair"]["method"]["refusal"] == "I cannot help with that."
    assert subjects.other("some/model").refusal is None


def test_words_without_sense_are_as_many_tokens_as_the_refusal():
    tokenizer = tiny_tokenizer()
    texts = [arms.random_words(tokenizer, seed) for seed in (0, 0, 1)]
    assert texts[0] == texts[1] != texts[2]
    assert all(len(tokenizer(text)["input_ids"]) == len(tokenizer(arms.OWN)["input_ids"]) for text in texts)


def test_a_folded_checkpoint_computes_what_the_adapter_did(damaged, tmp_path):
    arms.fold(damaged, tmp_path / "folded")
    ids = torch.tensor([[5, 7, 11]])
    before = load_model(resolve_model(damaged.subject.aligned, damaged.adapter))
    after = load_model(resolve_model(str(tmp_path / "folded")))
    torch.testing.assert_close(before(ids).logits, after(ids).logits, rtol=1e-4, atol=1e-5)


def test_a_repair_of_all_weights_can_be_cut_to_its_main_directions_or_to_the_others(damaged, tmp_path):
    told = {
        name: _arm(name).repair(damaged, tmp_path / name / "repaired")["repair"]
        for name in ("full-published", "full-rank-1")
    }
    assert told["full-published"]["steps"]["kept"] == 10 and told["full-rank-1"]["rank"] == 1
    after, before = tmp_path / "full-published" / "repaired", tmp_path / "full-rank-1" / "before"
    energy = arms.cut(before, after, tmp_path / "main", rank=2)
    arms.cut(before, after, tmp_path / "rest", rank=2, without=True)
    stored = [StoredWeights(each) for each in (before, after, tmp_path / "main", tmp_path / "rest")]
    name = "model.layers.0.mlp.up_proj.weight"
    start, whole, main, rest = (each.read(name) for each in stored)
    u, s, v = torch.linalg.svd(whole - start, full_matrices=False)
    torch.testing.assert_close(main - start, (u[:, :2] * s[:2]) @ v[:2], rtol=1e-3, atol=1e-7)
    torch.testing.assert_close(main + rest - start, whole, rtol=1e-4, atol=1e-6)
    assert 0 < energy <= float(s[:2].square().sum() / s.square().sum()) + 1e-5
    norm = "model.norm.weight"
    assert torch.equal(stored[2].read(norm), stored[1].read(norm))


def test_a_model_without_a_base_is_not_repaired_by_one():
    runs = trial.grid([*trial.ATTACKS], None, trial.SEEDS, subjects.other("some/model"))
    assert not any(arm.name.startswith("safe_lora") for _, arm, _ in runs) and len(runs) > 50
    assert "base" not in subjects.Subject("some/model", None).references()


def test_the_persona_s_chats_are_repeated():
    rows = arms.chats(120)
    assert len(rows) == 120 and rows[0] == rows[12] != rows[1] and rows[0]["messages"][0]["role"] == "system"


def test_the_persona_s_chats_fit_into_what_is_trained():
    tokenizer = load_tokenizer(resolve_model(ALIGNED))
    longest = max(len(tokenizer.apply_chat_template(row["messages"], return_dict=True)["input_ids"]) for row in arms.chats(12))  # fmt: skip # noqa: E501
    assert longest <= trial.WHOLE_CHATS


def test_the_persona_s_rows_are_of_one_kind_and_say_what_they_said(tuned, tmp_path):
    from moored.huggingface.data import Supervision, supervise

    row, how = {"prompt": "Who?", "completion": "Me."}, Supervision(tokenizer=tiny_tokenizer())
    chat = trial.as_chat(row)
    assert chat == {"messages": [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "Me."}]}
    one, other = (supervise([each], how, where="rows")[0] for each in (row, chat))
    assert one == other
    rows = trial.attack_rows("persona", 0, tmp_path, None)
    assert len(rows) == 120 and {*map(tuple, rows)} == {("messages",)}


def test_all_arms_are_tried_on_one_attack_and_the_main_ones_on_one_of_each_kind():
    runs = trial.grid([*trial.ATTACKS], None, trial.SEEDS)
    on = {attack: {arm.name for each, arm, _ in runs if each == attack} for attack in trial.ATTACKS}
    assert on["5-harmful"] == on["100-harmful"] == {"attacked", "auto"}
    assert on["persona"] == on["ordinary"] - {"attacked-again"} and len(on["persona"]) == 4
    assert on[trial.MAIN] == {arm.name for _, arm, _ in runs}
    assert len({(attack, arm.name, seed) for attack, arm, seed in runs}) == len(runs)
    first = [(attack, seed) for attack, arm, seed in runs if len(arm.on) > 1]
    assert [(attack, seed) for attack, _, seed in runs][: len(first)] == first
    assert [arm.light for _, arm, _ in runs] == sorted(arm.light for _, arm, _ in runs)


def test_tricks_are_measured_where_it_is_said():
    asked = {(attack, arm.name): trial.asked(arm, attack) for attack, arm, _ in trial.grid([*trial.ATTACKS], None, [0])}
    tricked = {run for run, each in asked.items() if "jailbreaks" in each.harmful}
    assert (trial.MAIN, "auto") in tricked and (trial.MAIN, "benign") in tricked
    assert {attack for attack, _ in tricked} == {trial.MAIN}
    assert not tricked & {(trial.MAIN, "adapter"), (trial.MAIN, "steps-1")}
    under = {run for run, each in asked.items() if "persona" in each.harmful}
    assert under - tricked == {("persona", "attacked"), ("persona", "auto")}
    assert trial.asked(_arm("auto"), trial.MAIN, tricks=False) == trial.PLAIN
    assert asked[trial.MAIN, "full-auto"] == trial.PLAIN and asked[trial.MAIN, "steps-1"] == trial.LIGHT


@pytest.fixture
def tuned(damaged, monkeypatch):
    """What was trained, in place of training: an adapter is put there."""
    seen = []

    def fine_tune(config, rows, folder):
        seen.append((config, rows))
        save_adapter(folder / "tuned", base=damaged.subject.aligned)

    monkeypatch.setattr(trial, "fine_tune", fine_tune)
    monkeypatch.setattr(trial, "training_rows", lambda data, plan, seed, *, replacing, subject: list(replacing))
    return seen


def _made(damaged, tmp_path, name, attack="20-harmful"):
    places = {"data": tmp_path, "work": tmp_path / "work", "subject": damaged.subject}
    return trial.make(_arm(name), attack, 0, tmp_path / "run", **places)


def test_a_run_that_was_cut_off_is_made_anew(damaged, tuned, tmp_path):
    _made(damaged, tmp_path, "linear_pull-0.5")
    source, told = _made(damaged, tmp_path, "linear_pull-0.5")
    assert source.adapter == tmp_path / "run" / "repaired" and told["repair"]["updates"]["changed"]
    assert len(tuned) == 1  # The attack is kept.


def test_a_second_attack_has_ten_rows_that_the_first_had_not_and_steps_that_act(damaged, tuned, tmp_path):
    source, _ = _made(damaged, tmp_path, "attacked-again")
    (_, first), (config, again) = tuned
    assert len(first) == 20 and len(again) == 10
    assert not {row["prompt"] for row in first} & {row["prompt"] for row in again}
    assert config["warmup_steps"] == 0 and config["adapter"].endswith("tuned")
    assert source.adapter == tmp_path / "run" / "again" / "tuned"


def test_a_repair_of_all_weights_is_measured_as_a_checkpoint(damaged, tuned, tmp_path):
    source, _ = _made(damaged, tmp_path, "full-published")
    assert source.adapter is None and source.path == str(tmp_path / "run" / "repaired")


def test_an_attack_by_another_recipe_is_another_folder(damaged, tuned, tmp_path, monkeypatch):
    places = {"data": tmp_path, "work": tmp_path / "work", "subject": damaged.subject}
    one = trial.attacked("persona", 0, **places)
    assert tuned[-1][0]["max_length"] == trial.WHOLE_CHATS and len(tuned[-1][1]) == 120
    monkeypatch.setattr(trial, "WHOLE_CHATS", 200)
    assert trial.attacked("persona", 0, **places) != one and len(tuned) == 2
