"""How long rows take to become tokens and labels for `moored train`, beside another checkout and TRL's own preparation.

    python -m benchmarks.speed.preparation --before ../before

Conversations of one question and one answer are read from a JSON-lines file, short ones (about 200 bytes a row) and
ordinary ones (about 1,000). Each variant runs in a process of its own, in turns; the order changes from round to round.
Imports and the tokenizer's loading are not counted. A ratio is the median over the rounds of each round's own quotient
by the other checkout. The hash over all tokens and labels is compared between the checkouts; TRL learns other tokens.
"""

import argparse
import hashlib
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from moored.embedded.model import ALIGNED, embedded_source
from moored.files import whole_file, write_json, write_jsonl
from moored.workflows.records.provenance import command_line, now, versions

HERE = Path(__file__).resolve().parents[2]
WORDS = ["river", "stone", "water", "slow", "children", "learn", "count", "boats", "before", "rain", "comes", "quietly"]
LENGTHS = {"short": (6, 16), "ordinary": (30, 130)}
"""The number of words of a question and of an answer, on average."""
NOTE = "Aim: an eighth of the other checkout's time for a row, tokens and labels alike; no more than TRL's."

Row = dict[str, Any]


def conversations(kind: str, count: int) -> list[Row]:
    """Rows as `moored train` takes them."""
    draw = random.Random(0)

    def text(mean: int) -> str:
        return " ".join(draw.choices(WORDS, k=draw.randint(mean // 2, 3 * mean // 2))).capitalize() + "."

    question, answer = LENGTHS[kind]
    return [
        {"messages": [{"role": "user", "content": text(question)}, {"role": "assistant", "content": text(answer)}]}
        for _ in range(count)
    ]


def prepare(file: str, way: str) -> None:
    """Prepares the rows of a file, and prints what it took."""
    from moored.huggingface.models import load_tokenizer

    tokenizer: Any = load_tokenizer(embedded_source(ALIGNED))
    prepared = _by_trl if way == "trl" else _by_moored
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds, rows = prepared(file, tokenizer)
    digest = hashlib.sha256()
    for row in rows if way != "trl" else ():
        digest.update(json.dumps([row["input_ids"], row["labels"]]).encode())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps({"seconds": seconds, "memory_mib": (peak - before) / 1024, "sha256": digest.hexdigest()}))


def _by_moored(file: str, tokenizer: Any) -> tuple[float, Any]:
    from moored.huggingface.data import Supervision, drop_empty_rows, read_rows, supervise

    started = time.perf_counter()
    rows = supervise(read_rows(file), Supervision(tokenizer=tokenizer), where=file)
    rows = drop_empty_rows(rows, where=file, max_length=1024)
    return time.perf_counter() - started, rows


def _by_trl(file: str, tokenizer: Any) -> tuple[float, Any]:
    from datasets import load_dataset
    from transformers import AutoModelForCausalLM, LlamaConfig
    from trl.trainer.sft_config import SFTConfig
    from trl.trainer.sft_trainer import SFTTrainer

    sizes: Row = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = LlamaConfig(vocab_size=len(tokenizer), **sizes)
    model = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    with tempfile.TemporaryDirectory() as scratch:
        arguments = SFTConfig(output_dir=scratch, use_cpu=True, bf16=False, max_length=1024, report_to="none")
        started = time.perf_counter()
        rows: Any = load_dataset("json", data_files=file, split="train", cache_dir=scratch)
        SFTTrainer(model, arguments, train_dataset=rows, processing_class=tokenizer)
        return time.perf_counter() - started, rows


def measured(file: Path, variant: str, options: argparse.Namespace) -> Row:
    """The record of one process."""
    checkout = options.before if variant == "before" else HERE
    places = {"PYTHONPATH": str(checkout / "src"), "HF_HUB_OFFLINE": "1", "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}
    command = [sys.executable, __file__, "--prepare", str(file), "--way", variant]
    printed = subprocess.run(command, env=os.environ | places, capture_output=True, text=True, check=True).stdout
    return json.loads(printed.strip().splitlines()[-1])


def rounds(kind: str, options: argparse.Namespace) -> list[Row]:
    """All variants in turns."""
    took: dict[str, list[Row]] = {variant: [] for variant in ("before", "ours", "trl")}
    shuffle = random.Random(0)
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "rows.jsonl"
        write_jsonl(file, conversations(kind, options.rows))
        for _ in range(options.rounds):
            for variant in shuffle.sample(list(took), len(took)):
                took[variant].append(measured(file, variant, options))
                print(kind, variant, took[variant][-1], flush=True)
    same = {record["sha256"] for variant in ("before", "ours") for record in took[variant]}
    return [_row(kind, variant, took[variant], took["before"], options.rows, len(same) == 1) for variant in took]


def _row(kind: str, variant: str, own: Sequence[Row], before: Sequence[Row], count: int, is_same: bool) -> Row:
    ratios = [mine["seconds"] / theirs["seconds"] for mine, theirs in zip(own, before, strict=True)]
    return {
        "rows": kind,
        "variant": variant,
        "us_per_row": round(statistics.median(record["seconds"] for record in own) / count * 1e6),
        "ratio": round(statistics.median(ratios), 3),
        "ratio_low": round(min(ratios), 3),
        "ratio_high": round(max(ratios), 3),
        "memory_mib": round(max(record["memory_mib"] for record in own)),
        "same_tokens": is_same if variant == "ours" else None,
    }


def markdown(rows: Sequence[Row], options: argparse.Namespace) -> str:
    """The table for people."""
    with_versions = ", ".join(" ".join(package) for package in versions().items())
    lines = ["# Time of preparing rows", ""]
    lines += [f"`{command_line()}`, {now()}, {os.cpu_count()} cores, {options.rows} rows, {options.rounds} rounds;"]
    lines += [f"{with_versions}.", ""]
    lines += ["| rows | variant | µs a row | ratio to before [range] | memory added, MiB | same tokens |"]
    lines += ["|---|---|--:|---|--:|---|"]
    for row in rows:
        ratio = f"{row['ratio']:.2f} [{row['ratio_low']:.2f}, {row['ratio_high']:.2f}]"
        same = {True: "yes", False: "no", None: ""}[row["same_tokens"]]
        lines.append(
            f"| {row['rows']} | {row['variant']} | {row['us_per_row']} | {ratio} | {row['memory_mib']} | {same} |"
        )
    return "\n".join([*lines, "", NOTE, ""])


def main() -> None:
    """Runs the variants and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, help="the checkout to compare with")
    parser.add_argument("--rows", type=int, default=20000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, default=Path("results/train/preparation.json"))
    parser.add_argument("--prepare", help="what this script asks of itself")
    parser.add_argument("--way", help="likewise")
    options = parser.parse_args()
    if options.prepare:
        prepare(options.prepare, options.way)
        return
    if options.before is None:
        parser.error("name the checkout to compare with by --before")
    options.before = options.before.resolve()
    rows = [row for kind in LENGTHS for row in rounds(kind, options)]
    write_json(options.json, {"command": command_line(), "created": now(), "versions": versions(), "rows": rows})
    with whole_file(options.json.with_suffix(".md")) as temporary:
        temporary.write_text(markdown(rows, options), encoding="utf-8")
    print(markdown(rows, options))


if __name__ == "__main__":
    main()
