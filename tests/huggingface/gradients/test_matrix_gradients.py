"""Against the gradients that autograd writes for the weights themselves."""

import pytest
import torch
from tests.tiny import KINDS, tiny_model, tiny_tokenizer
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel

from moored.errors import ModelError
from moored.huggingface.gradients.example_loss import example_loss
from moored.huggingface.gradients.matrix_gradients import matrix_gradients

EXAMPLES = [("How?", "Sorry, I cannot help."), ("What is the capital of France?", "It is Paris.")]


def _loss(model, examples=EXAMPLES):
    losses = [example_loss(model, tiny_tokenizer(), *each) for each in examples]
    return lambda: (loss() for loss in losses)


def _dense(model, loss):
    model.zero_grad()
    sum(loss()).backward()
    found = {name: each.grad.clone() for name, each in model.named_parameters() if each.grad is not None}
    model.zero_grad()
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_products_are_the_gradients_of_the_weights(kind):
    model = tiny_model(kind)
    loss = _loss(model)
    dense, found = _dense(model, loss), matrix_gradients(model, loss)
    assert list(found) == [name for name, each in dense.items() if "layers" in name and each.ndim == 2]
    for name, gradient in found.items():
        torch.testing.assert_close(gradient.whole(), dense[name], rtol=1e-4, atol=1e-6)


def test_layers_that_keep_their_weights_transposed_are_turned():
    sizes = GPT2Config(vocab_size=384, n_embd=16, n_layer=1, n_head=2, n_positions=128, resid_pdrop=0.0)
    model = GPT2LMHeadModel(sizes).eval()
    loss = _loss(model)
    dense, found = _dense(model, loss), matrix_gradients(model, loss)
    assert {name.rpartition(".h.0.")[2] for name in found} == {
        f"{each}.weight" for each in ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")
    }
    for name, gradient in found.items():
        torch.testing.assert_close(gradient.whole(), dense[name].T, rtol=1e-4, atol=1e-6)


def test_the_rank_is_bound_by_the_tokens():
    model = tiny_model()
    tokens = []
    hook = model.get_input_embeddings().register_forward_hook(lambda *args: tokens.append(args[2].shape[1]))
    found = matrix_gradients(model, _loss(model, EXAMPLES[:1]))
    hook.remove()
    assert {gradient.b.shape[1] for gradient in found.values()} == {tokens[0]}


@pytest.mark.parametrize("fails", [False, True])
def test_the_model_is_left_as_it_was(fails):
    model = tiny_model()
    model.lm_head.requires_grad_(False)
    asked = {name: each.requires_grad for name, each in model.named_parameters()}
    loss = _loss(model)

    def broken():
        yield next(loss())
        raise KeyboardInterrupt

    if fails:
        with pytest.raises(KeyboardInterrupt):
            matrix_gradients(model, broken)
    else:
        matrix_gradients(model, loss)
    assert {name: each.requires_grad for name, each in model.named_parameters()} == asked
    assert all(each.grad is None for each in model.parameters())
    assert not any(module._forward_hooks for module in model.modules())


def test_a_model_without_linear_layers_is_refused():
    class Bare(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Embedding(4, 2)

        def get_input_embeddings(self):
            return self.embed

    model = Bare()
    with pytest.raises(ModelError, match="no linear layers"):
        matrix_gradients(model, lambda: [model.embed(torch.tensor([1])).sum()])
