"""What per-sample gradient norms cost, ours and others', in multiples of a plain step on the embedded model.

    python -m benchmarks.speed.selection --json results/selection/speed.json

Writes a list of rows `{"case", "variant", "seconds", "ratio", "peak_mib", …}`, and beside it the same for people;
`paired.py` tells how they are measured. The limit is a plain forward and backward of the same batch, its
loss taken as transformers takes it; in a case called `online` it is one step of TRL's trainer over a pool of rows, and
ours one that selects a fifth. What finds other norms than the loop over samples is not timed.

Opacus is no dependency: `pip install --no-deps opacus==1.6.0 opt_einsum`.
"""

from benchmarks.speed.paired import Benchmark, main
from benchmarks.speed.selection_cases import CASES, DTYPES

AIMS = (
    "Aims for ours: ≤ 1.08 with LoRA, ≤ 1.3 with all parameters, ≤ 1.35 online; faster than every other way. The limit "
    "and all others score the whole vocabulary by transformers' head and a loss like its own, ours by its own in "
    "chunks: where most tokens are labelled that can save more than the norms cost (*short-answers* show it without). "
    "With all parameters the limit also makes a gradient of the model's size, which ours never does."
)
TOLERANCE = {"fp32": 1e-3, "bf16": 5e-2}

if __name__ == "__main__":
    main(
        Benchmark(
            name="selection",
            about=__doc__,
            title="What per-sample gradient norms cost",
            aims=AIMS,
            cases=CASES,
            finds="norms",
            twin=lambda variant: "loop",
            rivals=("opacus",),
            tolerance=lambda options: TOLERANCE[options.dtype],
            label=lambda name, options: name if options.dtype == "fp32" else f"{name}-{options.dtype}",
            arguments={"--dtype": {"choices": DTYPES, "default": "fp32"}},
        )
    )
