#!/usr/bin/env bash
# torch 2.13.0: code that torch.compile made for one model is used again for another model of the same class, although
# that one has forward hooks, which are then never called.
#
# Seen (calls of a forward hook): 1 where the hooked model is the first that is compiled, 0 where a model of the same
# class without hooks was compiled before in the same process. With torch._dynamo.config.skip_nnmodule_hook_guards set
# to False (its default is True) it is 1 in both cases. That default is documented for hooks that are added to a model
# after it was compiled; here the hook stands on a new model before its first call.
#
# Whoever watches or penalizes hidden states by hooks meets it with the second run of a process, as in a sweep.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/env"
"$place/env/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy
cat > "$place/hooks.py" <<'PY'
import torch
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 2)

    def forward(self, states):
        return self.layer(states)


def calls(*, after_another: bool) -> int:
    torch._dynamo.reset()
    if after_another:
        torch.compile(Model(), backend="eager")(torch.ones(1, 2))
    hooked, seen = Model(), []
    hooked.layer.register_forward_hook(lambda *_: seen.append(True))
    torch.compile(hooked, backend="eager")(torch.ones(1, 2))
    return len(seen)


for skip in (True, False):
    torch._dynamo.config.skip_nnmodule_hook_guards = skip
    print(f"guards skipped: {skip}; alone: {calls(after_another=False)}; after another: {calls(after_another=True)}")
PY
seen=$("$place/env/bin/python" "$place/hooks.py")
echo "$seen"
expected="guards skipped: True; alone: 1; after another: 0
guards skipped: False; alone: 1; after another: 1"
[ "$seen" = "$expected" ] || { echo "this has changed" >&2; exit 1; }
