"""What one-shot recovery costs, and the choice of its example, in multiples of an epoch of 1,000 rows.

    python -m benchmarks.speed.recovery --json results/recovery/speed.json

Writes a list of rows `{"case", "variant", "seconds", "ratio", "peak_mib", …}`, and beside it the same for people;
`paired.py` tells how they are measured. The limit is an epoch of 1,000 rows of 128 tokens with TRL, of which 32 rows
are trained and their time taken 31.25 times. Loading is left out everywhere. `moored-auto` asks the aligned model for
its refusal and fits its rate. The choices include the aligned model's refusals of the pool and what the two references
say to the prompts; they compare examples by short repairs of an adapter.
"""

from benchmarks.speed.paired import Benchmark, Case, main
from benchmarks.speed.recovery_cases import CHOICES, RecoveryCase

CASES: dict[str, Case] = {
    "adapter": RecoveryCase("lora", seconds=60),
    "all-parameters": RecoveryCase("full", seconds=80),
    "choice": RecoveryCase("lora", seconds=600, variants=("limit", *CHOICES)),
}
AIMS = "Aims for ours: recovery ≤ 0.03 of an epoch; a choice among 100 examples little above one among 20."

if __name__ == "__main__":
    main(
        Benchmark(
            name="recovery",
            about=__doc__,
            title="What one-shot recovery costs",
            aims=AIMS,
            cases=CASES,
            finds="losses",
            twin=lambda variant: variant,
            tolerance=lambda options: 1e-3,
            warm_up=lambda variant: variant not in CHOICES,
        )
    )
