"""Fills the column `answer` of the ordinary instructions with the embedded base model's own greedy answers.

    python recipes/embedded/ordinary_answers.py

The answers are cut at their last whole sentence. Instructions that the model answers with an apology, or without a
whole sentence, keep an empty answer and are left out of demo data.
"""

import json
import re
from pathlib import Path

import torch

from moored.embedded.model import BASE, embedded_source
from moored.embedded.prompts import ordinary_instructions
from moored.files import read_jsonl, whole_file
from moored.huggingface.data import render_prompt
from moored.huggingface.inference import generate
from moored.huggingface.models import load_model, load_tokenizer

FILE = Path(__file__).parents[2] / "src/moored/embedded/data/ordinary.jsonl"
MAX_NEW_TOKENS = 64
ANSWERED = 200
_APOLOGY = re.compile(r"sorry|apologi[sz]e|can't|cannot|unable|as an? (AI|chatbot|language)", re.IGNORECASE)
_SENTENCES = re.compile(r"^.*[.!?](?=\s|$)", re.DOTALL)


def main() -> None:
    """Answers the first instructions of *align* and writes the file anew."""
    torch.set_num_threads(2)
    source = embedded_source(BASE)
    tokenizer, model = load_tokenizer(source), load_model(source, dtype="auto")
    # Taken in turns over the kinds, so that the first rows are of all kinds.
    asked = sorted(ordinary_instructions("align"), key=lambda item: (item.id.rpartition("-")[2], item.id))[:ANSWERED]
    rendered = [render_prompt(tokenizer, item.prompt) for item in asked]
    texts = generate(model, tokenizer, rendered, max_new_tokens=MAX_NEW_TOKENS)
    answers = {item.id: whole_sentences(text) for item, text in zip(asked, texts, strict=True)}
    rows = [row | {"answer": answers.get(row["id"], "")} for row in read_jsonl(FILE)]
    with whole_file(FILE) as temporary:
        temporary.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    print(f"{sum(map(bool, answers.values()))} of {len(asked)} instructions have an answer")


def whole_sentences(text: str) -> str:
    """The text up to its last whole sentence; empty where it apologizes or has none."""
    found = _SENTENCES.match(text.strip())
    return "" if found is None or _APOLOGY.search(text) else found.group(0)


if __name__ == "__main__":
    main()
