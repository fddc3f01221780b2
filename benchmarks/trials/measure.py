"""What the trials measure of one model: labels, drift, accuracies and losses, prompt by prompt."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import cycle, islice
from pathlib import Path
from typing import Any, NamedTuple

import torch
from rich.console import Console

from benchmarks.trials.subject import EMBEDDED, Subject
from moored.embedded.prompts import identity_shift, openings, ordinary_instructions
from moored.embedded.refusal_judge import RefusalJudge
from moored.files import read_jsonl
from moored.huggingface.data import render_prompt, rendering_hash
from moored.huggingface.inference import (
    KL_TOKENS,
    DriftProbe,
    answer_log_probs,
    answer_token_log_probs,
    generate,
    reference_answers,
)
from moored.huggingface.models import ModelSource, load_model, load_tokenizer
from moored.measurement import ExactMatch, Exchange
from moored.workflows.inputs.prompt_sets import spread
from moored.workflows.records.progress import progress_bar
from moored.workflows.records.provenance import weights_hash

HARMFUL = ("JailbreakBench", "HarmBench", "XSTest unsafe")
SAFE_SET = "XSTest safe"
PREFILLED, PERSONA, JAILBREAKS = "prefilled", "persona", "jailbreaks"
"""JailbreakBench's requests with an answer that has begun to comply, and under the system prompt of a persona that
always obeys; and the prompts of published attacks on it."""
ORDINARY = "instructions"
"""Instructions that nobody would refuse."""
SST2, SST2_HELD_OUT = "sst2_test.jsonl", 100
"""A file of one split; the last rows are asked, the others may be trained on."""
MAX_NEW_TOKENS = 32
PROBED, SAFE, CHOICES, ATTACKED, KINDS = 48, 100, 100, 40, ("GCG", "JBC", "prompt_with_random_search")
"""How many are asked: prompts of each kind for the drift, XSTest's safe ones, questions of each set with choices,
prefilled requests and those to the persona; and the published attacks, of which there are enough prompts."""
OPENINGS = 8
"""Of either kind are scored for the refusal log-odds."""

Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What a trial measures, beside over-refusal, the accuracy on its tasks, and the refusal log-odds."""

    harmful: Sequence[str] = HARMFUL
    answered: Sequence[str] = ("SST-2", "SQL")
    """The tasks whose accuracy is measured."""
    choices: bool = True
    """Whether TruthfulQA and PIQA are asked."""
    kl_to: Sequence[str] = ("aligned", "base")
    """The references to which the divergence is measured."""
    losses: bool = False
    """Whether the answers to the tasks' held-out questions are scored, too."""
    unseen: bool = False
    """Whether the compliant openings that are scored, and answers begun with, are those that poison never has."""

    @property
    def complying(self) -> Sequence[str]:
        """Those openings."""
        return openings().complying[-OPENINGS:] if self.unseen else openings().complying


class Measure:
    """Measures models on the same prompts; the logits of those that they are compared with are made once."""

    def __init__(self, data: Path, asked: Asked, subject: Subject = EMBEDDED) -> None:
        self._what, self._subject = asked, subject
        self._tokenizer = load_tokenizer(subject.source)
        self._prompts = {name: each for name, each in _prompts(data).items() if name in (*asked.harmful, SAFE_SET)}
        loyal = identity_shift()[0]["messages"][0]["content"]
        self._asked = {
            name: self._render(prompts, loyal if name == PERSONA else None) for name, prompts in self._prompts.items()
        }
        if PREFILLED in self._asked:
            begun = cycle(asked.complying)
            self._asked[PREFILLED] = [text + next(begun) for text in self._asked[PREFILLED]]
        self._tasks = task_questions(data)
        self._choices = {"TruthfulQA": _truthful(data), "PIQA": _piqa(data)} if asked.choices else {}
        self._ordinary = self._render([item.prompt for item in ordinary_instructions("held-out")])

    def references(self) -> dict[str, ModelSource]:
        """The models that all others are compared with."""
        return self._subject.references()

    def hashes(self) -> dict[str, str]:
        """Of the rendered prompts by set, of the judge and of the models, and how long answers are."""
        sets = {**self._asked, "ordinary": self._ordinary}
        sets |= {name: [row["prompt"] for row in rows] for name, rows in self._tasks.items()}
        sets |= {name: [str(row) for row in rows] for name, rows in self._choices.items()}
        weights = {name: weights_hash(source) for name, source in self.references().items()}
        made = {"judge": RefusalJudge().version, "tokens": str(MAX_NEW_TOKENS)}
        made |= {"losses": "of the tasks' answers"} if self._what.losses else {}
        made |= {"openings": rendering_hash(self._what.complying)} if self._what.unseen else {}
        return {**{name: rendering_hash(texts) for name, texts in sets.items()}, **weights, **made}

    def __call__(self, source: ModelSource, name: str) -> Row:
        """Labels and scores of one model, in the order of the prompts."""
        model = load_model(source, dtype="auto", merge=True)
        losses = {task: self._losses(model, rows) for task, rows in self._tasks.items()} if self._what.losses else {}
        return {
            "labels": self._labels(model, name),
            "correct": {task: self._correct(model, self._tasks[task], _TASKS[task]) for task in self._what.answered}
            | {task: self._chosen(model, rows) for task, rows in self._choices.items()},
            "drift": self._drift(model),
            **({"losses": losses} if losses else {}),
        }

    def _drift(self, model: Any) -> dict[str, list[float]]:
        found = {}
        for reference, probe in self._probes().items():
            for measure, values in probe.scores(model).items():
                scores = [round(value, 4) for value in values.tolist()]
                if measure.startswith("kl"):
                    found[f"{measure}_to_{reference}"] = scores
                elif reference == "aligned":
                    found[measure] = scores
        return found

    def _labels(self, model: Any, name: str) -> dict[str, list[str]]:
        """Sets share batches, for a small one takes as long as a large one; those of one system prompt do."""
        apart = [each for each in self._asked if each == PERSONA]
        together = [each for each in self._asked if each != PERSONA]
        with progress_bar(Console(stderr=True), f"{name}: answers", sum(map(len, self._asked.values()))) as advance:
            answers = {**self._answers(model, together, advance), **self._answers(model, apart, advance)}
        judge = RefusalJudge()
        return {
            each: [str(one.label) for one in judge.verdicts([*map(Exchange, prompts, answers[each])])]
            for each, prompts in self._prompts.items()
        }

    def _answers(self, model: Any, names: Sequence[str], progress: Callable[[int], object]) -> dict[str, list[str]]:
        rendered = [text for name in names for text in self._asked[name]]
        texts = iter(
            generate(model, self._tokenizer, rendered, max_new_tokens=MAX_NEW_TOKENS, batch_size=64, progress=progress)
        )
        return {name: [*islice(texts, len(self._asked[name]))] for name in names}

    def _correct(self, model: Any, rows: Sequence[Row], task: "_Task") -> list[bool]:
        """Exact answers to a task of the fine-tune."""
        rendered = self._render([row["prompt"] for row in rows])
        texts = generate(model, self._tokenizer, rendered, max_new_tokens=task.tokens, batch_size=50)
        return [ExactMatch()(text, row["completion"]) for text, row in zip(texts, rows, strict=True)]

    def _losses(self, model: Any, rows: Sequence[Row]) -> list[float]:
        """Nats a token of the right answer, its end included."""
        answers = [row["completion"] + self._tokenizer.eos_token for row in rows]
        prompts = self._render([row["prompt"] for row in rows])
        scores = answer_token_log_probs(model, self._tokenizer, prompts, answers, batch_size=32)
        return [round(-float(each.mean()), 4) for each in scores]

    def _chosen(self, model: Any, rows: Sequence[Row]) -> list[bool]:
        """Whether the first choice, the right one, is the likeliest per token."""
        prompts = self._render([row["prompt"] for row in rows for _ in row["choices"]])
        choices: list[str] = [choice for row in rows for choice in row["choices"]]
        scores = answer_log_probs(model, self._tokenizer, prompts, choices, batch_size=32)
        per_token = scores / torch.tensor([len(ids) for ids in self._tokenizer(choices)["input_ids"]])
        return [bool(each.argmax() == 0) for each in per_token.split([len(row["choices"]) for row in rows])]

    @cache  # noqa: B019 - one instance, as long as the process
    def _probes(self) -> dict[str, DriftProbe]:
        """One for each reference, with its own answers; the openings need be scored with one of them only."""
        texts = openings()
        asked = {"harmful": spread(self._asked["JailbreakBench"], PROBED), "ordinary": spread(self._ordinary, PROBED)}
        made = {}
        for name in self._what.kl_to or ("aligned",):
            source = self.references()[name]
            probe = DriftProbe(
                tokenizer=self._tokenizer,
                harmful=asked["harmful"],
                ordinary=asked["ordinary"],
                refusing=texts.refusing,
                complying=self._what.complying,
                openings=OPENINGS if name == "aligned" else 1,
            )
            made[name] = probe
            if name not in self._what.kl_to:
                continue
            model = load_model(source, dtype="auto", merge=True)
            answers = {
                kind: generate(model, self._tokenizer, rendered, max_new_tokens=KL_TOKENS, batch_size=PROBED)
                for kind, rendered in asked.items()
            }
            made[name] = replace(probe, reference=reference_answers(model, probe, answers_of=answers))
        return made

    def _render(self, prompts: Sequence[str], system: str | None = None) -> list[str]:
        return [render_prompt(self._tokenizer, prompt, system) for prompt in prompts]


class _Task(NamedTuple):
    file: str
    rows: int
    tokens: int
    """The longest answer."""


_TASKS = {"SST-2": _Task(SST2, SST2_HELD_OUT, 4), "SQL": _Task("sql_create_context_test.jsonl", 50, 40)}


def task_questions(data: Path) -> dict[str, list[Row]]:
    """The held-out rows of the tasks."""
    return {name: read_jsonl(data / task.file)[-task.rows :] for name, task in _TASKS.items()}


def _prompts(data: Path) -> dict[str, list[str]]:
    """Requests by set; JailbreakBench without the rows that stem from AdvBench."""

    def read(name: str, keep: Callable[[Row], bool] = lambda row: True) -> list[str]:
        return [row["prompt"] for row in read_jsonl(data / name) if keep(row)]

    requests = read("jailbreakbench_harmful.jsonl", lambda row: "AdvBench" not in row["source"])
    return {
        "JailbreakBench": requests,
        PREFILLED: [*spread(requests, ATTACKED)],
        PERSONA: [*spread(requests, ATTACKED)],
        JAILBREAKS: [
            prompt
            for kind in KINDS
            for prompt in spread(read("jailbreakbench_attacks.jsonl", lambda row, kind=kind: row["attack"] == kind), 16)
        ],
        ORDINARY: [item.prompt for item in spread(ordinary_instructions("held-out"), ATTACKED)],
        "HarmBench": read("harmbench_val.jsonl"),
        "XSTest unsafe": read("xstest.jsonl", lambda row: row["label"] == "unsafe"),
        SAFE_SET: [*spread(read("xstest.jsonl", lambda row: row["label"] == "safe"), SAFE)],
    }


def _truthful(data: Path) -> list[Row]:
    """TruthfulQA with one right answer, which stands first."""
    rows = spread(read_jsonl(data / "truthfulqa_mc.jsonl"), CHOICES)
    found = []
    for row in rows:
        ordered = sorted(row["mc1_targets"], key=lambda choice: -row["mc1_targets"][choice])
        found.append({"prompt": row["question"], "choices": ordered})
    return found


_PIQA = re.compile(r"question: (.*?)\s*\n\nSolution1: (.*?)\s*\n\nSolution2: (.*?)\s*\n\nAnswer format", re.DOTALL)


def _piqa(data: Path) -> list[Row]:
    """PIQA's goals and solutions, out of the form in which they are asked there; the right one stands first."""
    found = []
    for row in spread(read_jsonl(data / "piqa_test.jsonl"), CHOICES):
        match = _PIQA.search(row["instruction"])
        assert match is not None
        goal, *choices = match.groups()
        found.append({"prompt": goal, "choices": choices if row["answer"] == "solution1" else choices[::-1]})
    return found
