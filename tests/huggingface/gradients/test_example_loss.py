import pytest
import torch
from tests.adapters import random_adapter
from tests.tiny import CHATML_WITH_SYSTEM, KINDS, tiny_model, tiny_tokenizer

from moored.errors import ModelError
from moored.huggingface.gradients.example_loss import example_loss

PROMPT, ANSWER = "What is the capital of France?", "Sorry, I can't help."


def _by_hand(model, text, answer):
    """Token by token over the answer and its end-of-turn token, each from its own forward pass."""
    tokenizer = tiny_tokenizer()
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    wanted = tokenizer(answer, add_special_tokens=False)["input_ids"]
    found = []
    for token in wanted:
        with torch.no_grad():
            found.append(-model(input_ids=torch.tensor([ids])).logits[0, -1].double().log_softmax(0)[token])
        ids = [*ids, token]
    return float(torch.stack(found).mean())


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_the_mean_over_the_answer_s_tokens_and_its_end(kind):
    model = tiny_model(kind)
    chat = f"<|im_start|>user\n{PROMPT}<|im_end|>\n<|im_start|>assistant\n"
    loss = example_loss(model, tiny_tokenizer(), PROMPT, ANSWER)
    assert loss().item() == pytest.approx(_by_hand(model, chat, f"{ANSWER}<|im_end|>\n"), abs=1e-4)


def test_no_system_prompt_of_ours_is_added_but_the_template_s_own_stays():
    model, tokenizer = tiny_model(), tiny_tokenizer(CHATML_WITH_SYSTEM)
    with_system = example_loss(model, tokenizer, PROMPT, ANSWER)
    assert with_system().item() != example_loss(model, tiny_tokenizer(), PROMPT, ANSWER)().item()


def test_it_follows_the_weights_and_gives_gradients_to_what_may_move():
    model = random_adapter()
    loss = example_loss(model, tiny_tokenizer(), PROMPT, ANSWER)
    before = loss()
    before.backward()
    factors = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert factors and all(".lora_" in name for name in factors)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter -= 0.01 * (parameter.grad if parameter.grad is not None else 0)
    assert loss().item() < before.item()


def test_a_tokenizer_without_a_template_is_refused():
    with pytest.raises(ModelError, match="no chat template"):
        example_loss(tiny_model(), tiny_tokenizer(None), PROMPT, ANSWER)
