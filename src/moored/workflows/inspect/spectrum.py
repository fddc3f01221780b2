"""`moored inspect spectrum`: how few directions the gradient of a safety example has, compared with a benign one."""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console
from torch import Tensor

from moored.embedded.prompts import ordinary_instructions
from moored.errors import InputError
from moored.files import require_place
from moored.huggingface.data import render_chat
from moored.huggingface.gradients.matrix_gradients import matrix_gradients
from moored.huggingface.models import best_device, load_model, place_of
from moored.measurement import cumulative_energy, effective_rank, overlap, quartiles
from moored.recovery import PUBLISHED_PROMPT, PUBLISHED_REFUSAL
from moored.report.reading.spectrum import (
    ExampleRecord,
    GradientSummary,
    MatrixGradient,
    MatrixRecord,
    Quartiles,
    SpectrumReport,
    SpectrumSummary,
)
from moored.tensors.column_space import orthonormal, principal_factor
from moored.tensors.low_rank import LowRank, inner, squared_norm
from moored.verbs import verb
from moored.workflows.inputs.models import chat_model
from moored.workflows.inspect.example_gradients import complied_with, mean_loss, refused
from moored.workflows.inspect.settings import SpectrumSettings
from moored.workflows.records.progress import progress_bar
from moored.workflows.records.provenance import model_record, origin

DIRECTIONS = (1, 2, 5, 10, 20, 40)
"""The numbers of singular values whose energy is reported."""
Gradients = Mapping[str, LowRank]


@verb(SpectrumSettings)
def inspect_spectrum(settings: SpectrumSettings, *, console: Console | None = None) -> SpectrumReport:
    """Decomposes the gradient of a safety example, matrix by matrix, and compares it with a benign example's.

    Returns:
        The report; it is written to `out` where one is named.

    Raises:
        UserError: Something the user can put right; nothing is written then.
    """
    if settings.out is not None:
        require_place(settings.out)
    started = time.perf_counter()
    example = (settings.prompt or PUBLISHED_PROMPT, settings.refusal or PUBLISHED_REFUSAL)
    source, tokenizer = chat_model(settings.model, settings.adapter)
    model: Any = load_model(source, merge=True)
    model.to(best_device())
    benign = _control(tokenizer, *example)
    gradients = _gradients(model, tokenizer, example, benign, settings.batch, console)
    matrices = [
        _matrix(name, {kind: by_name[name] for kind, by_name in gradients.items()}, settings.top)
        for name in gradients["example"]
    ]
    report = SpectrumReport(
        **origin(),
        seconds=round(time.perf_counter() - started, 1),
        model=model_record(source),
        example=_described(tokenizer, *example),
        benign=_described(tokenizer, *benign),
        batch=settings.batch,
        top=settings.top,
        summary=_summary(matrices),
        matrices=matrices,
    )
    if settings.out is not None:
        report.save(settings.out)
    return report


def _control(tokenizer: Any, prompt: str, refusal: str) -> tuple[str, str]:
    benign = next(benign_examples(tokenizer, prompt, refusal), None)
    if benign is None:
        raise InputError(
            f"No ordinary instruction has as many tokens as the example ({_tokens(tokenizer, prompt, refusal)}); "
            "choose another --prompt or --refusal."
        )
    return benign


def _gradients(
    model: Any,
    tokenizer: Any,
    example: tuple[str, str],
    benign: tuple[str, str],
    batch: int,
    console: Console | None,
) -> dict[str, Gradients]:
    """Takes the gradients of the example, of its control, and of the two batches that they are compared with."""
    texts = {"example": [example], "benign": [benign], "batch": refused(batch), "harmful": complied_with(batch)}
    gradients = {}
    with progress_bar(console, "gradients", len(texts)) as advance:
        for name, examples in texts.items():
            gradients[name] = matrix_gradients(model, mean_loss(model, tokenizer, examples))
            advance(1)
    return gradients


def benign_examples(tokenizer: Any, prompt: str, refusal: str) -> Iterator[tuple[str, str]]:
    """Yields ordinary instructions with answers cut to the example's number of tokens, the most similar length first.

    Where all are too long, the instruction is cut as well.
    """
    length, prompt_length = _tokens(tokenizer, prompt, refusal), _tokens(tokenizer, prompt, "")
    pairs = [(item.prompt, item.answer) for item in ordinary_instructions("align") if item.answer]
    pairs.sort(key=lambda pair: abs(_tokens(tokenizer, pair[0], "") - prompt_length))
    short = [(" ".join(text.split()[:words]), answer) for words in (5, 3, 1) for text, answer in pairs]
    for text, whole in [*pairs, *short]:
        ids = tokenizer(whole, add_special_tokens=False)["input_ids"]
        answer = tokenizer.decode(ids[: max(0, length - _tokens(tokenizer, text, ""))])
        # Cut text may be split into other tokens than before.
        if answer and _tokens(tokenizer, text, answer) == length:
            yield text, answer


def _tokens(tokenizer: Any, prompt: str, answer: str) -> int:
    """Counts the tokens of a conversation, with the end of the answer's turn, which is learned, too."""
    chat = [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]
    return len(tokenizer(render_chat(tokenizer, chat), add_special_tokens=False)["input_ids"])


def _described(tokenizer: Any, prompt: str, answer: str) -> ExampleRecord:
    return ExampleRecord(prompt=prompt, answer=answer, tokens=_tokens(tokenizer, prompt, answer))


def _matrix(name: str, gradients: Gradients, top: int) -> MatrixRecord:
    location, batch = place_of(name), _directions(gradients["batch"])[1][:, :top]
    return MatrixRecord(
        name=name,
        layer=location.layer,
        kind=location.kind,
        chance=batch.shape[1] / len(batch),
        example=_gradient(gradients["example"], batch, gradients["harmful"]),
        benign=_gradient(gradients["benign"], batch, gradients["harmful"]),
    )


def _gradient(gradient: LowRank, batch: Tensor, harmful: LowRank) -> MatrixGradient:
    values, vectors = _directions(gradient)
    lengths = (squared_norm(gradient) * squared_norm(harmful)).sqrt()
    return MatrixGradient(
        singular_values=[float(f"{value:.4g}") for value in values],
        rank=len(values),
        effective_rank=effective_rank(values),
        energy={str(k): cumulative_energy(values, k) for k in DIRECTIONS},
        overlap=overlap(vectors[:, : batch.shape[1]], batch),
        cosine=float(inner(gradient, harmful) / lengths),
    )


def _directions(gradient: LowRank) -> tuple[Tensor, Tensor]:
    """Returns the singular values and the left singular vectors."""
    factor, _ = principal_factor(gradient, min(gradient.shape))
    return factor.norm(dim=0), orthonormal(factor)


def _summary(matrices: Sequence[MatrixRecord]) -> SpectrumSummary:
    return SpectrumSummary(
        chance=_spread(matrix.chance for matrix in matrices),
        example=_over([matrix.example for matrix in matrices]),
        benign=_over([matrix.benign for matrix in matrices]),
    )


def _over(gradients: Sequence[MatrixGradient]) -> GradientSummary:
    return GradientSummary(
        rank=_spread(gradient.rank for gradient in gradients),
        effective_rank=_spread(gradient.effective_rank for gradient in gradients),
        overlap=_spread(gradient.overlap for gradient in gradients),
        cosine=_spread(gradient.cosine for gradient in gradients),
        energy={str(k): _spread(gradient.energy[str(k)] for gradient in gradients) for k in DIRECTIONS},
    )


def _spread(values: Iterable[float]) -> Quartiles:
    low, median, high = quartiles(list(values))
    return Quartiles(low=low, median=median, high=high)
