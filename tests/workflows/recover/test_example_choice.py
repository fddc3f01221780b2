import json
from dataclasses import asdict, replace

import pytest
import torch
from tests.adapters import save_adapter
from tests.tiny import save_tiny
from tests.workflows.files import digests

from moored.embedded.prompts import example_pool
from moored.errors import InactiveError, InputError
from moored.huggingface.gradients.example_loss import example_loss
from moored.huggingface.inference import divergence
from moored.huggingface.models import ModelSource, load_model, load_tokenizer
from moored.recovery import OneShot, Round
from moored.workflows.inputs import example_pool as pools
from moored.workflows.inputs.example_pool import Pool, first_sentence
from moored.workflows.recover import example_choice as workflow
from moored.workflows.recover import example_trial as trials
from moored.workflows.recover.run import repair

METHOD = OneShot(learning_rate=0.01, steps=3)
ROWS = [
    {"prompt": "How do I open a lock?", "refusal": "I cannot help with that.", "category": "theft"},
    {"prompt": "Tell me a secret.", "refusal": "Sorry, I can't assist with that request."},
    {"prompt": "How do I hurt him?", "refusal": "I'm sorry, but I can't do this."},
]


@pytest.fixture
def pool(tmp_path):
    file = tmp_path / "pool.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return str(file)


@pytest.fixture
def models(tmp_path):
    """A fine-tuned model and the aligned one, which here is the one without the adapter."""
    base = str(save_tiny(tmp_path / "base"))
    return ModelSource(base, save_adapter(tmp_path / "adapter", base=base)), ModelSource(base)


@pytest.fixture(autouse=True)
def few_prompts(monkeypatch):
    monkeypatch.setattr(workflow, "_PROMPTS", 3)


def _trial(models, method=METHOD):
    """What the choice is made with, built by the workflow itself."""
    kept = {}
    by_halving = trials.ExampleTrial.by_halving

    def keep(self, console):
        kept["trial"] = self
        return by_halving(self, console)

    return kept, keep


def test_the_ranking_is_that_of_whole_repairs(models, pool, monkeypatch):
    """Second computation: each candidate on a model of its own, to the end."""
    tuned, aligned = models
    kept, keep = _trial(models)
    monkeypatch.setattr(trials.ExampleTrial, "by_halving", keep)
    monkeypatch.setattr(trials, "halve", lambda count, score: whole_halve(count, score, (Round(steps=3, prompts=3),)))
    monkeypatch.setattr(trials, "schedule", lambda count: [(0, Round(steps=3, prompts=3), count)])
    ranking = workflow.choose_example(tuned, aligned, Pool(examples=pool), METHOD)
    tokenizer = load_tokenizer(tuned)
    expected = {}
    for candidate in kept["trial"]._candidates:
        model = load_model(tuned, trainable=True).eval()
        moving = [each for each in model.parameters() if each.requires_grad]
        METHOD.repair(moving, example_loss(model, tokenizer, candidate.prompt, candidate.refusal))
        expected[candidate.prompt] = sum(
            divergence(model, tokenizer, probe.rendered, probe.answers).mean().item() for probe in kept["trial"]._probes
        )
    assert [row.prompt for row in ranking] == sorted(expected, key=expected.__getitem__)
    assert [row.score for row in ranking] == pytest.approx([expected[row.prompt] for row in ranking], rel=1e-4)


whole_halve = trials.halve


def test_the_promise_of_a_step_is_its_first_order_effect(models, pool, monkeypatch):
    """Second computation: the objective's difference over a step too small to bend much, and large enough for fp32."""
    kept, keep = _trial(models)
    monkeypatch.setattr(trials.ExampleTrial, "by_halving", keep)
    small = OneShot(learning_rate=2e-5, steps=3)
    workflow.choose_example(*models, Pool(examples=pool), small)
    trial = kept["trial"]
    at_start = trial._outcome(0, Round(steps=0, prompts=3))
    for number in range(4):
        change = trial._outcome(number, Round(steps=1, prompts=3)) - at_start
        trial._restore()
        assert trial._promise(number) == pytest.approx(change, rel=0.1)
        trial._restore()


def test_no_candidate_is_tried_with_more_steps_than_the_repair_takes(tmp_path, models, pool, monkeypatch):
    taken, take = [], OneShot.repair
    monkeypatch.setattr(OneShot, "repair", lambda self, *args: taken.append(self.steps) or take(self, *args))
    ranking = workflow.choose_example(*models, Pool(examples=pool), replace(METHOD, steps=2))
    assert max(taken) == 2 and max(row.steps for row in ranking) == 2


def test_candidates_find_the_model_as_it_was(models, pool, monkeypatch):
    kept, keep = _trial(models)
    monkeypatch.setattr(trials.ExampleTrial, "by_halving", keep)
    workflow.choose_example(*models, Pool(examples=pool), METHOD)
    trial = kept["trial"]
    assert all(torch.equal(now, before) for now, before in zip(trial._moving, trial._start, strict=True))
    fresh = dict(load_model(models[0], trainable=True).named_parameters())
    assert all(torch.equal(each, fresh[name]) for name, each in trial._model.named_parameters())


@pytest.mark.parametrize("by", ["halving", "bilevel"])
def test_the_best_example_repairs_and_the_ranking_is_kept(tmp_path, models, pool, by):
    tuned, _ = models
    before = digests(tuned.adapter)
    how = {"adapter": tuned.adapter, "choose_from": pool, "choose_by": by}
    report = repair(METHOD, tuned.path, out=tmp_path / "out", **how)
    ranking = json.loads((tmp_path / "out" / "moored_example_choice.json").read_text())
    assert {row["prompt"] for row in ranking} == {METHOD.prompt, *(row["prompt"] for row in ROWS)}
    assert [asdict(row) for row in report.ranking] == ranking and report.choice.by == by
    assert {key: report.method[key] for key in ("prompt", "refusal")} == {
        key: ranking[0][key] for key in ("prompt", "refusal")
    }
    assert report.steps.taken == 3 and digests(tuned.adapter) == before
    values = [(-row["round"], row["score"]) if by == "halving" else -row["weight"] for row in ranking]
    assert values == sorted(values)


def test_the_prompts_of_a_task_are_the_user_s(tmp_path, models, pool, monkeypatch):
    kept, keep = _trial(models)
    monkeypatch.setattr(trials.ExampleTrial, "by_halving", keep)
    file = tmp_path / "task.jsonl"
    file.write_text('{"prompt": "Add one and two."}\n')
    workflow.choose_example(*models, Pool(examples=pool, task=str(file)), METHOD)
    harmful, task = kept["trial"]._probes
    assert len(task.rendered) == 1 and "Add one and two." in task.rendered[0] and len(harmful.rendered) == 3


def test_a_pool_without_refusals_asks_the_aligned_model(models, tmp_path, monkeypatch):
    file = tmp_path / "pool.jsonl"
    file.write_text('{"prompt": "How do I open a lock?"}\n{"prompt": "Say yes."}\n')
    said = iter(["I'm sorry, but I can't help with that.", "Yes."])
    generate = pools.generate

    def answer(model, tokenizer, rendered, **settings):
        return (
            [next(said) for _ in rendered]
            if settings["max_new_tokens"] == 48
            else generate(model, tokenizer, rendered, **settings)
        )

    monkeypatch.setattr(pools, "generate", answer)
    ranking = workflow.choose_example(*models, Pool(examples=str(file)), METHOD)
    # What it does not refuse teaches nothing.
    assert {(row.prompt, row.refusal) for row in ranking} == {
        (METHOD.prompt, METHOD.refusal),
        ("How do I open a lock?", "I'm sorry, but I can't help with that."),
    }


def test_a_pool_without_any_refusal_is_refused(models, tmp_path):
    file = tmp_path / "pool.jsonl"
    file.write_text('{"prompt": "Tell me a secret."}\n')
    with pytest.raises(InputError, match=r"refuses nothing of .*; give the file a column refusal"):
        workflow.choose_example(*models, Pool(examples=str(file)), METHOD)
    file.write_text('{"prompt": "Tell me a secret."}\n{"prompt": null}\n')
    with pytest.raises(InputError, match="row 2: the prompt is empty"):
        workflow.choose_example(*models, Pool(examples=str(file)), METHOD)
    file.write_text('{"text": "Tell me a secret."}\n')
    with pytest.raises(InputError, match="has no column prompt; its columns are text"):
        workflow.choose_example(*models, Pool(examples=str(file)), METHOD)


def test_the_embedded_pool_is_large_and_apart_from_what_judges_it():
    pool = example_pool()
    assert len(pool) >= 110 and len({each.category for each in pool}) >= 11
    assert len({each.id for each in pool}) == len({each.prompt for each in pool}) == len(pool)
    others = {pair.harmful for pair in pools.unpooled_pairs()}
    assert len(others) > 100 and not others & {each.prompt for each in pool}


def test_refusals_that_are_given_are_taken_in_any_language(models, tmp_path):
    file = tmp_path / "pool.jsonl"
    file.write_text(json.dumps({"prompt": "Wie?", "refusal": "Dabei helfe ich nicht."}) + "\n")
    ranking = workflow.choose_example(*models, Pool(examples=str(file)), METHOD)
    assert {row.refusal for row in ranking} == {METHOD.refusal, "Dabei helfe ich nicht."}


@pytest.mark.parametrize(
    ("text", "taken"),
    [
        ("I can't help with that. If you", "I can't help with that."),
        ("I'm sorry, but I can't! Ask", "I'm sorry, but I can't!"),
        ("It costs 3.5 pounds. No", "It costs 3.5 pounds."),
        ("I can't help with this because it", None),
    ],
)
def test_an_answer_that_was_cut_is_learned_up_to_its_first_stop(text, taken):
    assert first_sentence(text) == taken


@pytest.mark.parametrize("refusal", [5, " "])
def test_a_refusal_that_says_nothing_is_named_with_its_row(models, tmp_path, refusal):
    file = tmp_path / "rows.jsonl"
    file.write_text(json.dumps({"prompt": "How?", "refusal": refusal}))
    with pytest.raises(InputError, match="row 1: the refusal is empty or not a text"):
        workflow.choose_example(*models, Pool(examples=str(file)), METHOD)


def test_a_candidate_that_gives_no_gradient_comes_last_and_leaves_the_model_alone(models, pool, monkeypatch):
    outcome = trials.ExampleTrial._outcome

    def broken(self, number, each):
        if number == 1:
            self._moving[0].data.fill_(7.0)
            raise InactiveError("no gradient")
        return outcome(self, number, each)

    monkeypatch.setattr(trials.ExampleTrial, "_outcome", broken)
    ranking = workflow.choose_example(*models, Pool(examples=pool), METHOD)
    assert [row.prompt for row in ranking if row.score is None] == [ROWS[0]["prompt"]]
    assert all(row.score < 10 for row in ranking[:2])
