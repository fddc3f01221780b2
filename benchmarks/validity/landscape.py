"""How safe the embedded model stays when its weights are moved, before and after an attack, and its safety gradient.

    python -m benchmarks.validity.landscape --data ../shared/data --out results/landscape

Makes the attacked and the repaired model of `trials/recovery.py` (one attack, one seed), runs `moored inspect basin`
and `moored inspect spectrum` on the aligned, the attacked and the repaired one, and writes `table.md`, `table.json` and
figures of each. The pages are left in `--run`; what is there of the same weights and settings is not made again,
so that two calls can share the work: `--only` names the models of the first, and the second makes the rest.
"""

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from benchmarks.compact_files import write_table
from benchmarks.origin import used
from benchmarks.trials.recovery import SEEDS, attacked
from benchmarks.trials.recovery_arms import AUTO, MAIN, Damaged, arms
from benchmarks.trials.runs import key_of
from benchmarks.trials.subject import EMBEDDED, OWN
from benchmarks.trials.table_parts import markdown_table
from moored.embedded.model import ALIGNED, BASE
from moored.files import whole_file
from moored.report import basin_findings, spectrum_findings
from moored.report.pages.basin import basin_plots
from moored.report.pages.html import save_figure
from moored.report.pages.spectrum import spectrum_plots
from moored.report.reading.basin import BasinReport
from moored.report.reading.record import Report, read_record
from moored.report.reading.spectrum import SpectrumReport
from moored.report.words.basin_findings import length
from moored.workflows.inputs.models import resolve_model
from moored.workflows.inspect.basin import inspect_basin
from moored.workflows.inspect.spectrum import inspect_spectrum
from moored.workflows.records.provenance import command_line, now, versions, weights_hash

Row = dict[str, Any]
Basins = Mapping[str, BasinReport]
Spectra = Mapping[str, SpectrumReport]
STEPS, NEAR = ("harmful", "ordinary"), 0.00125
"""Directions of steps along a gradient, and how far is looked along them: they break a model before others move it."""
MODELS, REPAIR = ("aligned", "attacked", "repaired"), "auto"
FIGURES = {
    "basin": "Refusals along several directions",
    "near": "Refusals near by",
    "log-odds": "Log-odds of refusing along several directions",
    "plane": "Refusals along two directions at once",
    "spectrum": "Energy of the main directions of the safety gradient",
}
"""Of each model, by how their files begin."""
_OWN = ("command", "versions", "created", "model", "against", "base", "matrices")
"""What tells of this machine, stands elsewhere or is too long."""


def adapter_of(name: str, data: Path, run: Path) -> Path | None:
    """What lies over the embedded base in one of the models; None for alignment's own."""
    if name == "aligned":
        return None
    tuned = attacked(MAIN, SEEDS[0], data=data, work=run, subject=EMBEDDED)
    return tuned if name == "attacked" else _repaired(tuned)


def _repaired(tuned: Path) -> Path:
    repaired = tuned.with_name(f"{REPAIR}-{key_of(AUTO)}")
    if not repaired.is_dir():
        (arm,) = [arm for arm in arms() if arm.name == REPAIR]
        assert arm.repair is not None
        arm.repair(Damaged(EMBEDDED, tuned, SEEDS[0]), repaired)
    return repaired


def looked_at(folder: Path, look: Callable[..., Any], adapter: Path | None, **settings: Any) -> Path:
    """The report folder of one model, made unless it is there."""
    model = ALIGNED if adapter is None else BASE
    folder = folder.with_name(f"{folder.name}-{key_of(weights_hash(resolve_model(model, adapter)), settings)}")
    if not (folder / "report.json").is_file():
        look(model, adapter=adapter, out=folder, console=Console(stderr=True), **settings)
    return folder


def write(out: Path, basins: Basins, near: Basins, spectra: Spectra, about: Row) -> None:
    """The tables and the figures."""
    reports: dict[str, Mapping[str, Report]] = {"basins": dict(basins), "near": dict(near), "spectra": dict(spectra)}
    rows = {kind: {name: row_of(report) for name, report in by_name.items()} for kind, by_name in reports.items()}
    write_table(out / "table.json", {**about, **rows})
    for name in basins:
        refusals, *others = basin_plots(basins[name])
        plots = (refusals, basin_plots(near[name])[0], *others, spectrum_plots(spectra[name])[0])
        for kind, plot in zip(FIGURES, plots, strict=True):
            save_figure(plot.svg, out / f"{kind}-{name}.svg")
    with whole_file(out / "table.md") as temporary:
        temporary.write_text(markdown(basins, near, spectra, about), encoding="utf-8")


def row_of(report: Report) -> Row:
    """A report as the table holds it."""
    return {key: value for key, value in report.to_dict().items() if key not in _OWN}


def markdown(basins: Basins, near: Basins, spectra: Spectra, about: Row) -> str:
    """The numbers for people."""
    lines = [
        "# Around the embedded model",
        "",
        f"`{about['command']}`, {about['made']}; {used(about['versions'])}.",
        "",
        f"*attacked* is the aligned model after *{MAIN}* of `trials/recovery.py` (seed {SEEDS[0]}), *repaired* what "
        f"*{REPAIR}* made of it.",
        "",
        "How far weights can move before refusals become unlikely, relative to their norm, on "
        f"{next(iter(basins.values())).prompts} harmful requests:",
        "",
    ]
    rows = [
        [name, each.name, *(length(value, report.alphas) for value in (each.length.backwards, each.length.forwards))]
        for name in basins
        for report in (basins[name], near[name])
        for each in report.directions
        if not each.is_random and (report is near[name]) == (each.name in STEPS)
    ]
    lines += markdown_table(["model", "direction", "backwards", "forwards"], ["---", "---", "---:", "---:"], rows)
    for name, report in basins.items():
        lines += ["", f"## {name}", "", *(f"![{text}]({kind}-{name}.svg)" for kind, text in FIGURES.items()), ""]
        lines += [f"- {text}" for text in (*basin_findings(report), *spectrum_findings(spectra[name]))]
    return "\n".join([*lines, ""])


def main() -> None:
    """Looks at all three models."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--run", type=Path, default=Path("runs/landscape"))
    parser.add_argument("--out", type=Path, default=Path("results/landscape"))
    parser.add_argument("--only", nargs="*", choices=MODELS, default=MODELS, help="models; all by default")
    parser.add_argument("--random", type=int, default=10, help="random directions")
    parser.add_argument("--prompts", type=int, default=8, help="harmful requests that are scored at each point")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    settings = {"against": ALIGNED, "base": BASE, "random": options.random, "prompts": options.prompts}
    close_by = {**settings, "random": 1, "plane": False, "reach": NEAR}
    basins, near, spectra = {}, {}, {}
    for name in options.only:
        adapter, folder = adapter_of(name, options.data, options.run), options.run / name
        spectrum = looked_at(folder / "spectrum", inspect_spectrum, adapter, refusal=OWN)
        basin = looked_at(folder / "basin", inspect_basin, adapter, **settings)
        close = looked_at(folder / "near", inspect_basin, adapter, **close_by)
        spectra[name] = read_record(SpectrumReport, spectrum)
        basins[name], near[name] = read_record(BasinReport, basin), read_record(BasinReport, close)
    if len(basins) < len(MODELS):
        return  # A table of some models would take the place of one of all.
    write(options.out, basins, near, spectra, {"command": command_line(), "made": now(), "versions": versions()})


if __name__ == "__main__":
    main()
