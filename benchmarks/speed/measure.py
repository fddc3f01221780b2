"""How long `moored measure` and the demo take, as whole processes, beside another checkout and plain transformers.

    python -m benchmarks.speed.measure --before ../before --cases measure demo

Each command runs in a process of its own, in turns with the same command of the other checkout and, for `measure`,
with `transformers.generate` over the same prompts in one order of batches; the order changes from round to round. A
ratio is the median over the rounds of each round's own quotient by the other checkout. Labels are compared, too. A
finished process leaves a record in `--work` and is not run again; the table is made from the records.
"""

import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from moored.embedded.model import ALIGNED, BASE, embedded_source
from moored.files import read_jsonl, read_text, whole_file, write_json
from moored.workflows.records.provenance import command_line, now, versions

HERE = Path(__file__).resolve().parents[2]
MEASURE = ["measure", ALIGNED, "--against", BASE]
NEW_TOKENS, BATCH = 48, 32
PAIRED = "Aims: half the time of the other checkout, a third of plain transformers', the same labels."
ALONE = "Aim: on a processor without bf16 the demo takes 15 minutes at most."

Row = dict[str, Any]


def plain(limit: int | None) -> None:
    """The answers that `moored measure` asks for, by `transformers.generate` alone."""
    from moored.huggingface.data import render_prompt
    from moored.huggingface.models import load_model, load_tokenizer
    from moored.workflows.inputs.prompt_sets import EMBEDDED, load_prompt_sets

    sets = load_prompt_sets(dict.fromkeys(("harmful", "harmless", "ordinary"), EMBEDDED), limit=limit)
    tokenizer: Any = load_tokenizer(embedded_source(BASE))
    texts = [render_prompt(tokenizer, item.prompt) for each in sets for item in each.items]
    for name in (BASE, ALIGNED):
        model: Any = load_model(embedded_source(name), dtype="auto", merge=True)
        for start in range(0, len(texts), BATCH):
            batch = texts[start : start + BATCH]
            inputs = tokenizer(batch, return_tensors="pt", padding=True, padding_side="left", add_special_tokens=False)
            made = model.generate(**inputs, max_new_tokens=NEW_TOKENS, do_sample=False)
            tokenizer.batch_decode(made[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)


def command(case: str, variant: str, out: Path, options: argparse.Namespace) -> list[str]:
    """What a process runs."""
    limit = [] if options.limit is None else ["--limit", str(options.limit)]
    if variant == "transformers":
        return [sys.executable, __file__, "--plain", *limit]
    words = [*MEASURE, *limit] if case == "measure" else ["demo", *(["--quick"] if options.quick else [])]
    start = "import sys; from moored.cli import main; sys.argv[0] = 'moored'; sys.exit(main())"
    return [sys.executable, "-c", start, *words, "--out", str(out)]


def run(case: str, variant: str, out: Path, options: argparse.Namespace) -> Row:
    """One process: its wall time, and the most memory it held."""
    checkout = options.before if variant == "before" else HERE
    places = {"PYTHONPATH": str(checkout / "src"), "OMP_NUM_THREADS": str(options.threads), "HF_HUB_OFFLINE": "1"}
    if options.isa:
        places["ONEDNN_MAX_CPU_ISA"] = options.isa
    started = time.perf_counter()
    log = out.with_suffix(".log")
    with log.open("w") as told:
        process = subprocess.Popen(
            command(case, variant, out, options), env=os.environ | places, stdout=told, stderr=subprocess.STDOUT
        )
        # Unlike `wait`, it tells the memory of this process alone.
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{case}, {variant}: ended with {process.returncode}\n{log.read_text()[-2000:]}")
    return {"seconds": time.perf_counter() - started, "peak_mib": usage.ru_maxrss / 1024}


def labels(out: Path) -> dict[tuple[str, str, str], str | None]:
    """Each label by file, set and prompt."""
    files = sorted(out.rglob("answers*.jsonl"))
    return {
        (str(file.relative_to(out)), row["set"], row["id"]): row["label"] for file in files for row in read_jsonl(file)
    }


def recorded(case: str, variant: str, turn: int, options: argparse.Namespace) -> Row:
    """The record of one process, which is run unless it has been before."""
    folder = options.work / case / str(turn)
    file = folder / f"{variant}.json"
    if not file.is_file():
        out = folder / variant
        # What an interrupted run left would be resumed.
        for left in folder.glob(f"*{variant}*"):
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        folder.mkdir(parents=True, exist_ok=True)
        took = run(case, variant, out, options)
        write_json(file, {**took, "labels": {" ".join(key): label for key, label in labels(out).items()}})
    record = json.loads(read_text(file))
    print(case, turn, variant, round(record["seconds"], 1), "s", round(record["peak_mib"]), "MiB", flush=True)
    return record


def rounds(case: str, options: argparse.Namespace) -> list[Row]:
    """All variants of a case in turns."""
    variants = (
        ["ours"] if options.before is None else ["before", "ours", *(["transformers"] if case == "measure" else [])]
    )
    took: dict[str, list[Row]] = {variant: [] for variant in variants}
    different = asked = 0
    shuffle = random.Random(0)
    for turn in range(options.rounds):
        for variant in shuffle.sample(variants, len(variants)):
            took[variant].append(recorded(case, variant, turn, options))
        before, ours = (took[variant][-1]["labels"] for variant in (variants[0], "ours"))
        different += sum(label != before.get(key) for key, label in ours.items())
        asked += len(ours)
    return [_row(case, variant, took, {"different": different, "asked": asked}) for variant in variants]


def _row(case: str, variant: str, took: Mapping[str, Sequence[Row]], compared: Row) -> Row:
    own = took[variant]
    others = took.get("before", own)
    ratios = [mine["seconds"] / theirs["seconds"] for mine, theirs in zip(own, others, strict=True)]
    return {
        "case": case,
        "variant": variant,
        "seconds": round(statistics.median(each["seconds"] for each in own), 1),
        "ratio": round(statistics.median(ratios), 3),
        "ratio_low": round(min(ratios), 3),
        "ratio_high": round(max(ratios), 3),
        "peak_mib": round(max(each["peak_mib"] for each in own)),
        "labels": compared if variant == "ours" and "before" in took else None,
    }


def markdown(rows: Sequence[Row], options: argparse.Namespace) -> str:
    """The table for people."""
    made = f"`{command_line()}`, {now()}, {options.threads} threads of {os.cpu_count()} cores"
    made += f", oneDNN up to {options.isa}" if options.isa else ""
    with_versions = ", ".join(" ".join(package) for package in versions().items())
    lines = [
        "# Time of whole commands",
        "",
        f"{made}, {options.rounds} round{'s' if options.rounds > 1 else ''}; {with_versions}.",
        "",
    ]
    lines += [
        "| command | variant | seconds | ratio to before [range] | peak MiB | other labels |",
        "|---|---|--:|---|--:|---|",
    ]
    for row in rows:
        ratio = f"{row['ratio']:.2f} [{row['ratio_low']:.2f}, {row['ratio_high']:.2f}]"
        compared = "{different} of {asked}".format(**row["labels"]) if row["labels"] else ""
        lines.append(
            f"| {row['case']} | {row['variant']} | {row['seconds']} | {ratio} | {row['peak_mib']} | {compared} |"
        )
    return "\n".join([*lines, "", ALONE if options.before is None else PAIRED, ""])


def main() -> None:
    """Runs the cases and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, help="the checkout to compare with (default: none, times alone)")
    parser.add_argument("--json", type=Path, default=Path("results/measure/speed.json"))
    parser.add_argument("--cases", nargs="+", choices=["measure", "demo"], default=["measure"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--work", type=Path, default=Path("runs/speed"), help="where the records are kept")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--limit", type=int, help="of the prompts of each kind")
    parser.add_argument("--quick", action="store_true", help="the short demo")
    parser.add_argument("--isa", help="what oneDNN may use, AVX512_CORE for a processor without bf16")
    parser.add_argument("--plain", action="store_true", help="what this script asks of itself")
    options = parser.parse_args()
    if options.plain:
        plain(options.limit)
        return
    if options.before is not None:
        options.before = options.before.resolve()
    rows = [row for case in options.cases for row in rounds(case, options)]
    write_json(options.json, {"command": command_line(), "created": now(), "versions": versions(), "rows": rows})
    with whole_file(options.json.with_suffix(".md")) as temporary:
        temporary.write_text(markdown(rows, options), encoding="utf-8")
    print(markdown(rows, options))


if __name__ == "__main__":
    main()
