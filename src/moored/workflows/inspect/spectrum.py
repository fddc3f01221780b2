"""`moored inspect spectrum`: how few directions the gradient of a safety example lives in, against a benign one.

`report.json` holds, beside what every report says of its making:

- `example`: its `prompt`, `answer` and `tokens`, which bound the rank of its gradient; `benign`: the control of as many
  tokens, an ordinary instruction with its answer cut.
- `batch`: how many safety examples, and harmful ones, the means are over; `top`: singular vectors compared.
- `summary`: per gradient (`example`, `benign`) and measure the quartiles over the matrices, as `low`, `median`, `high`:
  `rank`, `effective_rank`, `energy` by number of directions, `overlap` with the batch, `cosine` with the harmful
  gradient; and the same of `chance`, the overlap of random spaces.
- `matrices`: the same numbers of each, with its `name`, `layer` and `kind`, and the `singular_values` themselves.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from torch import Tensor

from moored.embedded.prompts import ordinary_instructions
from moored.errors import InputError
from moored.files import require_place, whole_folder, write_json
from moored.huggingface.data import render_chat
from moored.huggingface.gradients.matrix_gradients import matrix_gradients
from moored.huggingface.models import best_device, load_model, place_of
from moored.measurement import cumulative_energy, effective_rank, overlap, quartiles
from moored.recovery import PUBLISHED_PROMPT, PUBLISHED_REFUSAL
from moored.report import render_spectrum
from moored.tensors.column_space import orthonormal, principal_factor
from moored.tensors.low_rank import LowRank, inner, squared_norm
from moored.workflows.inputs.models import chat_model
from moored.workflows.inspect.example_gradients import complied_with, mean_loss, refused
from moored.workflows.records.progress import progress_bar
from moored.workflows.records.provenance import describe_model, stamp

DIRECTIONS = (1, 2, 5, 10, 20, 40)
"""Numbers of singular values whose energy is told."""
COMPARED = ("example", "benign")
Gradients = Mapping[str, LowRank]


def inspect_spectrum(
    model: str,
    *,
    out: Path,
    adapter: Path | None = None,
    prompt: str = PUBLISHED_PROMPT,
    refusal: str = PUBLISHED_REFUSAL,
    batch: int = 16,
    top: int = 20,
    console: Console | None = None,
) -> dict[str, Any]:
    """Takes the gradients of all matrices and writes `report.json` and `index.html`.

    Args:
        model: a folder, a Hub id, an adapter folder, `embedded:base` or `embedded:aligned`; best the fine-tuned one
            that is to be repaired.
        out: the report folder; must be empty or absent.
        adapter: a PEFT folder laid over the model.
        prompt: of the safety example.
        refusal: its answer.
        batch: safety examples, and harmful ones, that the example is compared with; ≥ 2.
        top: singular vectors of which the overlap is taken; ≥ 1.
        console: where progress is shown; None is silent.

    Returns:
        The content of `report.json`.

    Raises:
        UserError: whatever the user can put right; nothing is written then.
    """
    require_place(out)
    if batch < 2 or top < 1:
        raise InputError(f"--batch must be at least 2 and --top at least 1, got {batch} and {top}.")
    started = time.perf_counter()
    source, tokenizer = chat_model(model, adapter)
    loaded: Any = load_model(source, merge=True)
    loaded.to(best_device())
    benign = next(benign_examples(tokenizer, prompt, refusal), None)
    if benign is None:
        raise InputError(
            f"No ordinary instruction has the {_tokens(tokenizer, prompt, refusal)} tokens of the example to compare "
            "with; give another one."
        )
    texts = {
        "example": [(prompt, refusal)],
        "benign": [benign],
        "batch": refused(batch),
        "harmful": complied_with(batch),
    }
    gradients = {}
    with progress_bar(console, "gradients", len(texts)) as advance:
        for name, examples in texts.items():
            gradients[name] = matrix_gradients(loaded, mean_loss(loaded, tokenizer, examples))
            advance(1)
    matrices = [
        _compared(name, {kind: each[name] for kind, each in gradients.items()}, top) for name in gradients["example"]
    ]
    report = {
        **stamp("inspect spectrum"),
        "seconds": round(time.perf_counter() - started, 1),
        "model": describe_model(source),
        "example": _described(tokenizer, prompt, refusal),
        "benign": _described(tokenizer, *benign),
        "batch": len(texts["batch"]),
        "top": top,
        "summary": _summary(matrices),
        "matrices": matrices,
    }
    with whole_folder(out) as folder:
        write_json(folder / "report.json", report)
        render_spectrum(folder)
    return report


def benign_examples(tokenizer: Any, prompt: str, refusal: str) -> Iterator[tuple[str, str]]:
    """Ordinary instructions, their answers cut so that both together have as many tokens as the example; likest first.

    Where all are too long, an instruction is cut as well.
    """
    wanted, asked = _tokens(tokenizer, prompt, refusal), _tokens(tokenizer, prompt, "")
    pairs = [(item.prompt, item.answer) for item in ordinary_instructions("align") if item.answer]
    pairs.sort(key=lambda pair: abs(_tokens(tokenizer, pair[0], "") - asked))
    short = [(" ".join(text.split()[:words]), answer) for words in (5, 3, 1) for text, answer in pairs]
    for text, whole in [*pairs, *short]:
        ids = tokenizer(whole, add_special_tokens=False)["input_ids"]
        answer = tokenizer.decode(ids[: max(0, wanted - _tokens(tokenizer, text, ""))])
        # Cut text may be told apart into other tokens.
        if answer and _tokens(tokenizer, text, answer) == wanted:
            yield text, answer


def _tokens(tokenizer: Any, prompt: str, answer: str) -> int:
    """With what ends the answer's turn, which is learned, too."""
    chat = [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]
    return len(tokenizer(render_chat(tokenizer, chat), add_special_tokens=False)["input_ids"])


def _described(tokenizer: Any, prompt: str, answer: str) -> dict[str, Any]:
    return {"prompt": prompt, "answer": answer, "tokens": _tokens(tokenizer, prompt, answer)}


def _compared(name: str, gradients: Gradients, top: int) -> dict[str, Any]:
    """The numbers of one matrix."""
    place, batch = place_of(name), _directions(gradients["batch"])[1][:, :top]
    row = {"name": name, "layer": place.layer, "kind": place.kind, "chance": batch.shape[1] / len(batch)}
    return row | {kind: _numbers(gradients[kind], batch, gradients["harmful"]) for kind in COMPARED}


def _numbers(gradient: LowRank, batch: Tensor, harmful: LowRank) -> dict[str, Any]:
    values, vectors = _directions(gradient)
    lengths = (squared_norm(gradient) * squared_norm(harmful)).sqrt()
    return {
        "singular_values": [float(f"{value:.4g}") for value in values],
        "rank": len(values),
        "effective_rank": effective_rank(values),
        "energy": {str(k): cumulative_energy(values, k) for k in DIRECTIONS},
        "overlap": overlap(vectors[:, : batch.shape[1]], batch),
        "cosine": float(inner(gradient, harmful) / lengths),
    }


def _directions(gradient: LowRank) -> tuple[Tensor, Tensor]:
    """Singular values and left singular vectors."""
    factor, _ = principal_factor(gradient, min(gradient.shape))
    return factor.norm(dim=0), orthonormal(factor)


def _summary(matrices: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    def spread_of(values: Sequence[float | int]) -> dict[str, float]:
        return dict(zip(("low", "median", "high"), quartiles(values), strict=True))

    found: dict[str, Any] = {"chance": spread_of([row["chance"] for row in matrices])}
    for kind in COMPARED:
        rows = [row[kind] for row in matrices]
        plain = {key: spread_of([row[key] for row in rows]) for key in ("rank", "effective_rank", "overlap", "cosine")}
        energy = {str(k): spread_of([row["energy"][str(k)] for row in rows]) for k in DIRECTIONS}
        found[kind] = {**plain, "energy": energy}
    return found
