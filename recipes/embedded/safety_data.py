"""Writes what the safety adapter of the embedded model learns from.

    python recipes/embedded/safety_data.py --out runs/embedded/safety.jsonl

Harmful requests of *align* get one of the project's own refusals. Their twins, the ordinary instructions of *align* and
instructions that the base model makes up itself get the first tokens of the base model's own greedy answer, marked
unfinished, so that the adapter learns when to refuse and hardly anything else. A chat model that is given nothing but
the opening of a user's turn writes what users write (Magpie, arXiv 2406.08464): ordinary requests of a width that a few
hundred written ones do not have. The rows of `VALIDATION` are left out: settings were chosen on them.
"""

import argparse
import re
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from moored.embedded.model import BASE, embedded_source
from moored.embedded.prompts import openings, ordinary_instructions, request_pairs
from moored.files import write_jsonl
from moored.huggingface.data import render_prompt
from moored.huggingface.inference import generate
from moored.huggingface.models import load_model, load_tokenizer
from moored.workflows.records.progress import progress_bar

ANSWER_TOKENS = 8
MADE_UP = 1152
"""So many instructions the base model is asked for; those that it does not finish are dropped."""
MADE_UP_TOKENS = 48
MADE_UP_LETTERS = range(12, 401)
VALIDATION = {*range(13, 19), *range(84, 90)}
"""Numbers within each category, and within each kind of instruction."""
_APOLOGY = re.compile(r"sorry|apologi[sz]e|can't|cannot|unable|as an? (AI|chatbot|language)", re.IGNORECASE)


def main() -> None:
    """Writes the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/embedded/safety.jsonl"))
    out = parser.parse_args().out
    torch.set_num_threads(2)
    torch.manual_seed(0)
    source = embedded_source(BASE)
    base, tokenizer = load_model(source, dtype="auto"), load_tokenizer(source)
    pairs = [pair for pair in request_pairs("align") if not is_validation(pair.id)]
    instructions = [item.prompt for item in ordinary_instructions("align") if not is_validation(item.id)]
    refusals = openings().refusals
    rows = [_row("refused", pair.harmful, refusals[place % len(refusals)]) for place, pair in enumerate(pairs)]
    rows += _answered(base, tokenizer, "twin", [pair.twin for pair in pairs])
    rows += _answered(base, tokenizer, "ordinary", instructions + _made_up(base, tokenizer))
    write_jsonl(out, rows)
    print(f"{out}: {dict(Counter(row['kind'] for row in rows))}")


def is_validation(identifier: str) -> bool:
    """Whether a row of *align* was kept for choosing settings."""
    return int(identifier.rpartition("-")[2]) in VALIDATION


def _answered(base: Any, tokenizer: Any, kind: str, prompts: list[str]) -> list[dict[str, object]]:
    rendered = [render_prompt(tokenizer, prompt) for prompt in prompts]
    with progress_bar(Console(stderr=True), "the base model answers", len(prompts)) as advance:
        texts = generate(base, tokenizer, rendered, max_new_tokens=ANSWER_TOKENS, batch_size=64, progress=advance)
    return [
        _row(kind, prompt, text, unfinished=True)
        for prompt, text in zip(prompts, texts, strict=True)
        if text and not _APOLOGY.search(text)
    ]


@torch.inference_mode()
def _made_up(base: Any, tokenizer: Any, batch: int = 128) -> list[str]:
    """Finished user turns, sampled from the base model after the template's opening of one."""
    opening, _ = render_prompt(tokenizer, "@").split("@")
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    start = torch.tensor([tokenizer(opening, add_special_tokens=False)["input_ids"]]).repeat(batch, 1)
    found: list[str] = []
    with progress_bar(Console(stderr=True), "the base model asks", MADE_UP) as advance:
        for _ in range(MADE_UP // batch):
            turns = base.generate(
                start,
                attention_mask=torch.ones_like(start),
                do_sample=True,
                temperature=1.0,
                top_p=0.98,
                max_new_tokens=MADE_UP_TOKENS,
                eos_token_id=end,
                pad_token_id=end,
            )[:, start.shape[1] :].tolist()
            found += [tokenizer.decode(turn[: turn.index(end)]).strip() for turn in turns if end in turn]
            advance(batch)
    return list(dict.fromkeys(text for text in found if len(text) in MADE_UP_LETTERS))


def _row(kind: str, prompt: str, completion: str, *, unfinished: bool = False) -> dict[str, object]:
    return {"kind": kind, "prompt": prompt, "completion": completion, "unfinished": unfinished}


if __name__ == "__main__":
    main()
