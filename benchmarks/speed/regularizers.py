"""What penalties cost during training, ours and as papers' code has them, in multiples of what they are added to.

    python -m benchmarks.speed.regularizers --json results/regularizers/speed.json

Writes a list of rows `{"case", "variant", "seconds", "ratio", "peak_mib", …}`, and beside it the same for people;
`paired.py` tells how they are measured. In a case called `step` the limit is an optimizer step of plain TRL on the
embedded model, with LoRA on all linear layers, bf16 autocast and micro-batches of 8 × 128 tokens. `moored-direction`
has a direction of full rank, the worst case, `moored-direction-lowrank` that of an adapter; `moored-both` is
`moored-direction` and `moored-tokens-cached`. `full-logits-tokens` takes its loss from its logits too, in bf16, which
on a CPU is faster than TRL's own head, in fp32; `limit-again` is another plain trainer, and how far it is from 1 is
what such ratios cannot tell. In `penalty-of-a-step` the limit is such a step, and the others are what they add to it,
alone: steps differ from each other by more than a penalty takes. Where tokens are held that goes from the last hidden
states to the gradient at them. In a case called `layer` the limit is that layer's own forward and backward for 1024
tokens, and the others are the penalty and its gradient alone. A penalty that is not ours is not timed. The peak of
memory counts all that a variant keeps beyond the loaded model.
"""

from benchmarks.speed.paired import Benchmark, Case, main
from benchmarks.speed.regularizer_layers import LayerCase
from benchmarks.speed.regularizer_steps import OURS, WAYS, AloneCase, StepCase

CASES: dict[str, Case] = {
    "step-accumulation-1": StepCase(1, tuple(WAYS), seconds=32),
    # The others' costs grow with the micro-batches, and so stay in proportion.
    "step-accumulation-4": StepCase(4, ("limit", "moored-direction"), seconds=28),
    "penalty-of-a-step": AloneCase(("limit", *OURS), seconds=10),
    "layer-4096x4096": LayerCase(4096, 4096, seconds=3),
    "layer-11008x4096": LayerCase(11008, 4096, seconds=15),
}
TWINS = {
    "dense-direction": "moored-direction",
    "moored-tokens-cached": "moored-tokens-uncached",
    "full-logits-tokens": "moored-tokens-uncached",
    "moored-bf16": "moored-fp32",
    "dense": "moored-fp32",
}
"""Variants that compute one thing in two ways."""
AIMS = (
    "Aims for ours: the direction ≤ 1.05 at accumulation 1 and ≤ 1.02 at 4, tokens ≤ 1.05 cached and ≤ 1.40 uncached, "
    "both ≤ 1.08; at 4096×4096 a tenth of the dense form's seconds."
)

if __name__ == "__main__":
    main(
        Benchmark(
            name="regularizers",
            about=__doc__,
            title="What penalties cost",
            aims=AIMS,
            cases=CASES,
            finds="penalties",
            twin=lambda variant: TWINS.get(variant, variant),
            tolerance=lambda options: 5e-2,  # Products are in bf16.
            preparation_counts=True,
        )
    )
