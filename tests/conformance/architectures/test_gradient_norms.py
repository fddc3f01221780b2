"""The gradient norm of each row of a batch is autograd's of that row alone, for every architecture, or is refused."""

import pytest
import torch
from tests.conformance.architectures.oracles import batch_of, norms_of, with_lora
from tests.conformance.architectures.outcomes import LORA_NORMS_REFUSED, NORMS_REFUSED, cases
from tests.conformance.architectures.tiny_architectures import tiny_architecture

from moored.errors import UserError
from moored.huggingface.gradients.score import score

pytestmark = pytest.mark.filterwarnings("ignore")  # Of the libraries: odd models, and configurations made small.


def _check(model, sentence):
    if sentence is not None:
        with pytest.raises(UserError, match=sentence) as raised:
            score(model.train(), batch_of("right"))
        assert "\n" not in str(raised.value)
        return
    found = [score(model.train(), batch_of(side)).norms for side in ("right", "left")]
    expected = norms_of(model.eval())
    for norms in found:
        torch.testing.assert_close(norms, expected, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(("architecture", "sentence"), cases(NORMS_REFUSED))
def test_norms_by_all_parameters(architecture, sentence):
    _check(tiny_architecture(architecture).requires_grad_(True), sentence)


@pytest.mark.parametrize(("architecture", "sentence"), cases(LORA_NORMS_REFUSED, fast=("rwkv", "llama4")))
def test_norms_by_lora(architecture, sentence):
    _check(with_lora(tiny_architecture(architecture)), sentence)
