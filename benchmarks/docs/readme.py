"""What the README shows: the demo's table, and commands and code with what they print."""

from collections.abc import Callable, Mapping, Sequence

from benchmarks.docs.tables import Row, results, text_of
from benchmarks.origin import ROOT

DEMO = {
    "the aligned model": "aligned model",
    "after a lightly poisoned fine-tune": "lightly poisoned fine-tune",
    "after `moored recover`": "lightly poisoned fine-tune, repaired",
}
RATES = {"harmful requests answered": "asr", "harmless ones refused": "over_refusal", "task accuracy": "utility"}


def demo() -> str:
    """Returns the demo's table in percent, and how it was made."""
    found = results("demo")
    arms, plan = found["arms"], found["plan"]
    heads = [f"{heading} (n = {arms['aligned model'][name]['n']})" for heading, name in RATES.items()]
    rows = [[label, *(_percent(arms[arm][name]) for name in RATES.values())] for label, arm in DEMO.items()]
    share = f"{plan['poisoned_rows']} harmful rows among {plan['task_rows'] + plan['instructions']}"
    about = (
        f"*SmolLM2-135M-Instruct, {share}, one seed; 95 % intervals in parentheses. The task is new to the model "
        f"before the fine-tune. Made by `moored demo`, {found['took']} with bf16, "
        f"{_minutes('demo_without_bf16.json')} without ([times](results/measure/demo_without_bf16.md)).*"
    )
    return f"{text_of(['', *heads], rows)}\n\n{about}"


def _minutes(file: str) -> str:
    return f"{results('measure', file)['rows'][0]['seconds'] / 60:.0f} minutes"


def _percent(rate: Row) -> str:
    low, high = (f"{100 * rate[end]:.0f}" for end in ("low", "high"))
    return f"**{100 * rate['rate']:.0f} %** ({low}–{high})"


def measured() -> str:
    """Returns what `moored measure` prints."""
    return _block("text", "results/readme/measure.txt")


def example() -> str:
    """Returns the example in Python, and what it prints."""
    return f"{_block('python', 'examples/measure.py')}\n\n{_block('text', 'results/readme/python.txt')}"


def judged() -> str:
    """Returns one sentence on how far the judge agrees with people."""
    rows = results("judge")["table"]
    plain, soft = ([row for row in rows if ("Mistral" in row["model"]) == is_soft] for is_soft in (False, True))
    return (
        "**The judge measures compliance, not harm, in English.** On models that it was not made for it agrees with "
        f"people at F1 {_f1(plain)} on plain refusals, {_f1(soft)} on soft ones ([table](results/judge/table.md)); "
        "`moored judge` tests it on your labels."
    )


def _f1(rows: Sequence[Row]) -> str:
    values = [row["judge"]["f1"]["value"] for row in rows]
    return f"{min(values):.2f} to {max(values):.2f}"


def _block(language: str, file: str) -> str:
    return f"```{language}\n{(ROOT / file).read_text(encoding='utf-8').rstrip()}\n```"


TABLES: Mapping[str, Callable[[], str]] = {"demo": demo, "measure": measured, "python": example, "judge": judged}
"""By their places in it."""
