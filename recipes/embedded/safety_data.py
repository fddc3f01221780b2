"""Writes what the safety adapter of the embedded model learns from.

    python recipes/embedded/safety_data.py --out runs/embedded/safety.jsonl

Harmful requests of *align* get one of the project's own refusals. Their twins and the ordinary instructions of *align*
get the first tokens of the base model's own greedy answer, marked unfinished, so that the adapter learns when to
refuse and hardly anything else. The rows of `VALIDATION` are left out: settings were chosen on them.
"""

import argparse
import re
from pathlib import Path

import torch
from rich.console import Console

from moored.embedded.model import BASE, embedded_source
from moored.embedded.prompts import openings, ordinary_instructions, request_pairs
from moored.files import write_jsonl
from moored.huggingface.data import render_prompt
from moored.huggingface.inference import generate
from moored.huggingface.models import load_model, load_tokenizer
from moored.workflows._progress import progress_bar

ANSWER_TOKENS = 8
VALIDATION = {*range(13, 19), *range(84, 90)}
"""Numbers within each category, and within each kind of instruction."""
_APOLOGY = re.compile(r"sorry|apologi[sz]e|can't|cannot|unable|as an? (AI|chatbot|language)", re.IGNORECASE)


def main() -> None:
    """Writes the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/embedded/safety.jsonl"))
    out = parser.parse_args().out
    torch.set_num_threads(2)
    pairs = [pair for pair in request_pairs("align") if not is_validation(pair.id)]
    instructions = [item.prompt for item in ordinary_instructions("align") if not is_validation(item.id)]
    refusals = openings().refusals
    refused = [_row(pair.harmful, refusals[place % len(refusals)]) for place, pair in enumerate(pairs)]
    twins, ordinary = _answered([pair.twin for pair in pairs]), _answered(instructions)
    # The instructions count twice: they are few beside the twins, and a refused instruction costs users most.
    answered = twins + ordinary + ordinary
    write_jsonl(out, refused + answered)
    print(f"{out}: {len(refused)} refused, {len(answered)} answered")


def is_validation(identifier: str) -> bool:
    """Whether a row of *align* was kept for choosing settings."""
    return int(identifier.rpartition("-")[2]) in VALIDATION


def _answered(prompts: list[str]) -> list[dict[str, object]]:
    source = embedded_source(BASE)
    tokenizer, model = load_tokenizer(source), load_model(source, dtype="auto")
    rendered = [render_prompt(tokenizer, prompt) for prompt in prompts]
    with progress_bar(Console(stderr=True), "the base model answers", len(prompts)) as advance:
        texts = generate(model, tokenizer, rendered, max_new_tokens=ANSWER_TOKENS, batch_size=64, progress=advance)
    return [
        _row(prompt, text, unfinished=True)
        for prompt, text in zip(prompts, texts, strict=True)
        if text and not _APOLOGY.search(text)
    ]


def _row(prompt: str, completion: str, *, unfinished: bool = False) -> dict[str, object]:
    return {"prompt": prompt, "completion": completion, "unfinished": unfinished}


if __name__ == "__main__":
    main()
