"""How long rows take to become tokens and labels for `moored train`, beside another checkout and TRL's own preparation.

    python -m benchmarks.speed.preparation --before ../before

Conversations of one question and one answer are read from a JSON-lines file, short ones (about 200 bytes a row) and
ordinary ones (about 1,000). Each variant runs in a process of its own, in turns; the order changes from round to round.
Imports and the tokenizer's loading are not counted, and every process has an empty cache; `again` is a second
preparation of the same file. TRL prepares in one process, its default, and in two. A ratio is the median over the
rounds of each round's own quotient by the other checkout. The hash over all tokens and labels is compared between the
checkouts; TRL learns other tokens. The memory, of all processes and without what they read and write on the disk, is
looked at in runs of their own, with a quarter of the rows and with all.
"""

import argparse
import hashlib
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import psutil

from moored.embedded.model import ALIGNED, embedded_source
from moored.files import whole_file, write_json, write_jsonl

HERE = Path(__file__).resolve().parents[2]
WORDS = ["river", "stone", "water", "slow", "children", "learn", "count", "boats", "before", "rain", "comes", "quietly"]
LENGTHS = {"short": (6, 16), "ordinary": (30, 130)}
"""The number of words of a question and of an answer, on average."""
TRL = {"trl": None, "trl in two processes": 2}
"""The processes that TRL prepares in."""
VARIANTS = ["before", "ours", "again", *TRL]
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


def prepare(file: str, way: str, *, with_memory: bool) -> None:
    """Prepares the rows of a file, and prints what it took."""
    from moored.huggingface.models import load_tokenizer

    tokenizer: Any = load_tokenizer(embedded_source(ALIGNED))
    if way == "again":
        _by_moored(file, tokenizer)
    with AnonymousMemory() if with_memory else nullcontext() as memory:
        seconds, rows = _by_trl(file, tokenizer, way) if way in TRL else _by_moored(file, tokenizer)
    digest = hashlib.sha256()
    for row in () if way in TRL else rows:
        digest.update(json.dumps([row["input_ids"], row["labels"]]).encode())
    added = None if memory is None else memory.added
    print(json.dumps({"seconds": seconds, "memory_mib": added, "sha256": digest.hexdigest()}))


class AnonymousMemory:
    """The most memory that this process and its workers added, in MiB, without pages of files."""

    def __enter__(self) -> "AnonymousMemory":
        self._before = self._most = self._now()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    @property
    def added(self) -> float:
        """MiB so far."""
        return (self._most - self._before) / 1024

    def _watch(self) -> None:
        while not self._end.wait(0.02):
            self._most = max(self._most, self._now())

    @staticmethod
    def _now() -> int:
        """KiB; a page that processes share counts once."""
        total = 0
        for process in [psutil.Process(), *psutil.Process().children()]:
            with suppress(OSError):  # A worker may have ended.
                text = Path(f"/proc/{process.pid}/smaps_rollup").read_text()
                total += int(text.partition("Pss_Anon:")[2].split()[0])
        return total


def _by_moored(file: str, tokenizer: Any) -> tuple[float, Any]:
    from moored.huggingface import data

    how = data.Supervision(tokenizer=tokenizer)
    started = time.perf_counter()
    if hasattr(data, "prepare_rows"):
        rows = data.prepare_rows(data.open_rows(file), how)
    else:
        rows = data.supervise(data.read_rows(file), how, where=file)  # pyright: ignore[reportArgumentType]
    rows = data.drop_empty_rows(rows, where=file, max_length=1024)
    return time.perf_counter() - started, rows


def _by_trl(file: str, tokenizer: Any, way: str) -> tuple[float, Any]:
    from datasets import load_dataset
    from transformers import AutoModelForCausalLM, LlamaConfig
    from trl.trainer.sft_config import SFTConfig
    from trl.trainer.sft_trainer import SFTTrainer

    sizes: Row = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = LlamaConfig(vocab_size=len(tokenizer), **sizes)
    model = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    with tempfile.TemporaryDirectory() as scratch:
        quiet: Row = {"output_dir": scratch, "use_cpu": True, "bf16": False, "report_to": "none"}
        arguments = SFTConfig(**quiet, max_length=1024, dataset_num_proc=TRL[way])
        started = time.perf_counter()
        rows: Any = load_dataset("json", data_files=file, split="train", cache_dir=scratch)
        SFTTrainer(model, arguments, train_dataset=rows, processing_class=tokenizer)
        return time.perf_counter() - started, rows


def measured(file: Path, variant: str, options: argparse.Namespace, *more: str) -> Row:
    """The record of one process."""
    checkout = options.before if variant == "before" else HERE
    with tempfile.TemporaryDirectory() as cache:
        environment = os.environ | {"PYTHONPATH": str(checkout / "src"), "HF_HUB_OFFLINE": "1"}
        environment |= {"HF_DATASETS_CACHE": cache, "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}
        command = [sys.executable, __file__, "--prepare", str(file), "--way", variant, *more]
        printed = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout
    return json.loads(printed.strip().splitlines()[-1])


def rounds(kind: str, options: argparse.Namespace) -> list[Row]:
    """All variants in turns."""
    took: dict[str, list[Row]] = {variant: [] for variant in VARIANTS}
    memory: dict[str, list[float]] = {}
    shuffle = random.Random(0)
    with tempfile.TemporaryDirectory() as scratch:
        quarter, whole = Path(scratch) / "quarter.jsonl", Path(scratch) / "whole.jsonl"
        write_jsonl(quarter, conversations(kind, options.rows // 4))
        write_jsonl(whole, conversations(kind, options.rows))
        for _ in range(options.rounds):
            for variant in shuffle.sample(VARIANTS, len(VARIANTS)):
                took[variant].append(measured(whole, variant, options))
                print(kind, variant, took[variant][-1], flush=True)
        for variant in VARIANTS:
            memory[variant] = [measured(file, variant, options, "--memory")["memory_mib"] for file in (quarter, whole)]
            print(kind, variant, memory[variant], flush=True)
    same = {record["sha256"] for variant in ("before", "ours", "again") for record in took[variant]}
    return [
        _row(kind, variant, took[variant], took["before"], options.rows)
        | {"memory_mib": [round(added) for added in memory[variant]]}
        | {"same_tokens": len(same) == 1 if variant in ("ours", "again") else None}
        for variant in VARIANTS
    ]


def _row(kind: str, variant: str, own: Sequence[Row], before: Sequence[Row], count: int) -> Row:
    ratios = [mine["seconds"] / theirs["seconds"] for mine, theirs in zip(own, before, strict=True)]
    return {
        "rows": kind,
        "variant": variant,
        "us_per_row": round(statistics.median(record["seconds"] for record in own) / count * 1e6),
        "ratio": round(statistics.median(ratios), 3),
        "ratio_low": round(min(ratios), 3),
        "ratio_high": round(max(ratios), 3),
    }


def markdown(rows: Sequence[Row], options: argparse.Namespace) -> str:
    """The table for people."""
    from moored.workflows.records.provenance import command_line, now, versions

    with_versions = ", ".join(" ".join(package) for package in versions().items())
    lines = ["# Time of preparing rows", ""]
    lines += [f"`{command_line()}`, {now()}, {os.cpu_count()} cores, {options.rows} rows, {options.rounds} rounds;"]
    lines += [f"{with_versions}.", ""]
    columns = f"memory added by {options.rows // 4}, {options.rows} rows, MiB"
    lines += [f"| rows | variant | µs a row | ratio to before [range] | {columns} | same tokens |"]
    lines += ["|---|---|--:|---|--:|---|"]
    for row in rows:
        ratio = f"{row['ratio']:.3f} [{row['ratio_low']:.3f}, {row['ratio_high']:.3f}]"
        same = {True: "yes", False: "no", None: ""}[row["same_tokens"]]
        memory = ", ".join(map(str, row["memory_mib"]))
        lines.append(f"| {row['rows']} | {row['variant']} | {row['us_per_row']} | {ratio} | {memory} | {same} |")
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
    parser.add_argument("--memory", action="store_true", help="likewise")
    options = parser.parse_args()
    if options.prepare:
        prepare(options.prepare, options.way, with_memory=options.memory)
        return
    if options.before is None:
        parser.error("name the checkout to compare with by --before")
    options.before = options.before.resolve()
    # An earlier build, whose preparation this script runs, too, has it elsewhere.
    from moored.workflows.records.provenance import command_line, now, versions

    rows = [row for kind in LENGTHS for row in rounds(kind, options)]
    write_json(options.json, {"command": command_line(), "created": now(), "versions": versions(), "rows": rows})
    with whole_file(options.json.with_suffix(".md")) as temporary:
        temporary.write_text(markdown(rows, options), encoding="utf-8")
    print(markdown(rows, options))


if __name__ == "__main__":
    main()
