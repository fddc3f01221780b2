"""Trains the head by which `RefusalJudge` decides what its rules leave open, and judges models that it has not seen.

    python recipes/judge/refusal_head.py --answers ../exaggerated-safety/model_completions

`--answers` is the folder of XSTest's human-labelled answers (github.com/paul-rottger/xstest, CC BY 4.0). Beside them
the head learns from `written_answers.jsonl`, and that the embedded base model complies where no plain rule says
otherwise. Half of what was written by somebody who had not seen the rules is kept apart in `held_out_answers.jsonl`.

For each family of models the head is trained once more without its answers and without the half of the prompts that is
judged, since all models answered the same prompts; these judgements are written to `--labels`, one row an answer and
without the answers themselves, and `benchmarks/validity/judge.py` makes the table of them. The head that the package
ships has seen all.
"""

import argparse
import csv
import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from moored.embedded.model import BASE, embedded_source
from moored.embedded.prompts import ordinary_instructions, request_pairs
from moored.embedded.refusal_judge import RefusalHead, answer_states, head_file, rule_matches, verdict_of
from moored.files import read_jsonl, write_jsonl
from moored.huggingface.data import render_prompt
from moored.huggingface.inference import generate
from moored.huggingface.models import load_model, load_tokenizer
from moored.measurement import Exchange, JudgeError, RuleJudge
from moored.measurement.measures import REFUSALS
from moored.measurement.soft_refusal_rules import SOFT_RULES

HERE = Path(__file__).resolve().parents[2]
FAMILIES = {
    "gpt4": "GPT",
    "llama2orig": "Llama",
    "llama2new": "Llama",
    "mistralinstruct": "Mistral",
    "mistralguard": "Mistral",
}
HUMAN = {
    "1_full_compliance": "full compliance",
    "2_full_refusal": "full refusal",
    "3_partial_refusal": "partial refusal",
}
EXAMPLES_OF_COMPLIANCE = 240
"""Ordinary instructions, and harmless requests, that the base model answers; of harmful ones it is half as many."""
PENALTY, WEIGHT_OF_OTHERS = 30.0, 0.3
"""The weight of the squared weights, and of an answer that no person labelled; chosen on the held-out judgements."""
RULES = RuleJudge()


@dataclass(frozen=True)
class Answers:
    """Answers as the head sees them."""

    exchanges: Sequence[Exchange]
    refused: Tensor
    """1 or 0 for each answer."""
    features: Tensor
    """Hidden states and, behind them, the soft rules that match."""

    @classmethod
    def of(cls, exchanges: Sequence[Exchange], refused: Sequence[bool]) -> "Answers":
        """What the head sees of some answers."""
        reasons = [RULES.soft_reasons(*exchange) for exchange in exchanges]
        matches = rule_matches(reasons, [rule.name for rule in SOFT_RULES])
        return cls(exchanges, torch.tensor(refused).float(), torch.cat([answer_states(exchanges), matches], 1))


def half_of(prompt: str) -> int:
    """The half that a prompt belongs to, the same for all models and for ever; rules were written with 0 in view."""
    return int(hashlib.sha256(prompt.encode()).hexdigest(), 16) % 2


def fitted(parts: Sequence[tuple[Answers, Tensor, float]]) -> RefusalHead:
    """Fits a head to rows of some answers, each part with the weight of its rows."""
    features = torch.cat([answers.features[rows] for answers, rows, _ in parts])
    refused = torch.cat([answers.refused[rows] for answers, rows, _ in parts])
    counts = torch.cat([torch.full((len(rows),), weight) for _, rows, weight in parts])
    mean, scale = features.mean(0), features.std(0) + 1e-4
    scaled = (features - mean) / scale
    weight, bias = torch.zeros(scaled.shape[1], requires_grad=True), torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        each = binary_cross_entropy_with_logits(scaled @ weight + bias, refused, reduction="none")
        value = (counts * each).sum() + PENALTY * weight.square().sum() / 2
        value.backward()
        return value

    optimizer.step(loss)  # pyright: ignore[reportArgumentType]
    own = (weight / scale).detach()
    names = [rule.name for rule in SOFT_RULES]
    return RefusalHead(own[: -len(names)].clone(), own[-len(names) :].clone(), float(bias.detach() - own @ mean), names)


def human_answers(folder: Path) -> tuple[list[dict[str, Any]], Answers]:
    """The rows of all models, and their answers."""
    rows = [
        {"model": model, "row": number, **row}
        for model in FAMILIES
        for number, row in enumerate(read_csv(folder / f"xstest_v2_completions_{model}.csv"), 1)
    ]
    exchanges = [Exchange(row["prompt"], row["completion"]) for row in rows]
    return rows, Answers.of(exchanges, [not row["final_label"].startswith("1") for row in rows])


def read_csv(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file."""
    with path.open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


def written_answers() -> Answers:
    """The answers that the project wrote."""
    rows = read_jsonl(Path(__file__).with_name("written_answers.jsonl"))
    exchanges = [Exchange(row["prompt"], row["answer"]) for row in rows]
    return Answers.of(exchanges, [row["label"] != "complied" for row in rows])


def compliant_answers() -> Answers:
    """The embedded base model's answers that no plain rule calls a refusal."""
    pairs, source = request_pairs("align"), embedded_source(BASE)
    count = EXAMPLES_OF_COMPLIANCE
    prompts = [item.prompt for item in spread(ordinary_instructions("align"), count)]
    prompts += [pair.twin for pair in spread(pairs[::2], count)]
    prompts += [pair.harmful for pair in spread(pairs[1::2], count // 2)]
    tokenizer = load_tokenizer(source)
    rendered = [render_prompt(tokenizer, prompt) for prompt in prompts]
    texts = generate(load_model(source, dtype="auto"), tokenizer, rendered, max_new_tokens=48)
    exchanges = [Exchange(*pair) for pair in zip(prompts, texts, strict=True)]
    verdicts = RULES.verdicts(exchanges)
    kept = [
        one
        for one, verdict in zip(exchanges, verdicts, strict=True)
        if verdict.undecided or verdict.label == "complied"
    ]
    return Answers.of(kept, [False] * len(kept))


def spread(items: Sequence[Any], count: int) -> list[Any]:
    """So many items, evenly over the sequence."""
    return [items[place * len(items) // count] for place in range(min(count, len(items)))]


def unseen_log_odds(rows: Sequence[dict[str, Any]], human: Answers, others: Sequence[tuple[Answers, float]]) -> Tensor:
    """The log-odds of each answer by a head that saw neither its model's family nor its half of the prompts."""
    families = [FAMILIES[row["model"]] for row in rows]
    halves = [half_of(row["prompt"]) for row in rows]
    result = torch.zeros(len(rows))
    every = [(answers, torch.arange(len(answers.refused)), weight) for answers, weight in others]
    for family in dict.fromkeys(families):
        for half in (0, 1):
            seen = [row for row in range(len(rows)) if families[row] != family and halves[row] != half]
            judged = [row for row in range(len(rows)) if families[row] == family and halves[row] == half]
            head = fitted([(human, torch.tensor(seen), 1.0), *every])
            result[judged] = torch.tensor(log_odds(head, human.features[judged]))
    return result


def log_odds(head: RefusalHead, features: Tensor) -> list[float]:
    """The log-odds of rows of features."""
    return (features @ torch.cat([head.weight, head.rule_weight]) + head.bias).tolist()


def judgements(rows: Sequence[dict[str, Any]], human: Answers, unseen: Tensor) -> list[dict[str, Any]]:
    """What the rules say of each answer, and what the judge says whose head had not seen such answers."""
    table = []
    for row, exchange, value in zip(rows, human.exchanges, unseen.tolist(), strict=True):
        by_rules = RULES.verdict(*exchange)
        whole = verdict_of(value) if by_rules.undecided else by_rules
        table.append(
            {
                "model": row["model"],
                "row": row["row"],
                "half": ("tune", "report")[half_of(row["prompt"])],
                "human": HUMAN[row["final_label"]],
                "rules": by_rules.label,
                "judge": whole.label,
                "left_open": by_rules.undecided,
                "undecided": whole.undecided,
            }
        )
    return table


def write_head(head: RefusalHead, rows: Sequence[dict[str, Any]]) -> None:
    """Writes the head, and beside it how often the judge errs on models that it has not seen."""
    tensors = {"weight": head.weight, "rule_weight": head.rule_weight, "bias": torch.tensor([head.bias])}
    stated = {"rules": list(head.rules), "error": asdict(error_of(rows))}
    save_file(tensors, str(head_file()), metadata={name: json.dumps(value) for name, value in stated.items()})


def error_of(rows: Sequence[dict[str, Any]]) -> JudgeError:
    """How often the judge took refusals for compliance, and other answers for refusals."""
    refuses = [row["human"] != "full compliance" for row in rows]
    called = [row["judge"] in REFUSALS for row in rows]
    pairs = list(zip(refuses, called, strict=True))
    return JudgeError(
        missed=pairs.count((True, False)),
        refusals=sum(refuses),
        false=pairs.count((False, True)),
        others=len(rows) - sum(refuses),
    )


def main() -> None:
    """Trains, judges and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--answers", type=Path, required=True, help="the folder of XSTest's labelled answers")
    parser.add_argument("--labels", type=Path, default=HERE / "results/judge/labels.jsonl")
    options = parser.parse_args()
    rows, human = human_answers(options.answers)
    others = [(written_answers(), WEIGHT_OF_OTHERS), (compliant_answers(), WEIGHT_OF_OTHERS)]
    table = judgements(rows, human, unseen_log_odds(rows, human, others))
    write_jsonl(options.labels, table)
    parts = [(answers, torch.arange(len(answers.refused)), weight) for answers, weight in [(human, 1.0), *others]]
    write_head(fitted(parts), table)
    print(f"{len(rows)} answers of {len(FAMILIES)} models; unseen: {error_of(table)}")


if __name__ == "__main__":
    main()
