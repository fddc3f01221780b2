from functools import wraps

import pytest
import torch
from tests.adapters import random_adapter
from tests.huggingface.inference import families
from tests.huggingface.inference.chats import PROMPTS, RENDERED, TOKENIZER, plain_answer
from tests.tiny import KINDS, SIZES, tiny_model
from transformers import GenerationConfig, MistralConfig, MistralForCausalLM

from moored.errors import ModelError
from moored.huggingface.inference import generate

# Most seeds of the tied model say nothing but its prompt's last token.
MODELS = {kind: lambda kind=kind: tiny_model(kind, seed=1) for kind in KINDS} | {
    "adapter": lambda: random_adapter("qwen2")
}


@pytest.mark.parametrize("kind", families.MODELS)
@pytest.mark.parametrize("prompts", [RENDERED, PROMPTS], ids=["one start", "no common start"])
def test_answers_of_all_families_are_those_of_a_loop(kind, prompts):
    model = families.MODELS[kind]()
    answers = generate(model, TOKENIZER, prompts, max_new_tokens=5, batch_size=3)
    assert answers == [plain_answer(model, prompt, 5) for prompt in prompts]


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("batch_size", [1, 2, 32])
def test_answers_are_those_of_a_loop_in_the_order_of_the_prompts(kind, batch_size):
    model = MODELS[kind]()
    answers = generate(model, TOKENIZER, RENDERED, max_new_tokens=7, batch_size=batch_size)
    assert answers == [plain_answer(model, prompt, 7) for prompt in RENDERED]
    assert len(set(answers)) > 1


def test_a_checkpoint_s_own_settings_neither_sample_nor_punish_repetition():
    model = tiny_model()
    own = GenerationConfig(
        do_sample=True, temperature=9.0, top_k=50, repetition_penalty=5.0, no_repeat_ngram_size=1, max_length=3
    )
    model.generation_config = own
    answers = generate(model, TOKENIZER, RENDERED, max_new_tokens=12)
    assert answers == [plain_answer(model, prompt, 12) for prompt in RENDERED]
    assert model.generation_config is own


def test_an_answer_ends_where_the_checkpoint_says():
    """Chat models often list two ends, and one that stops at the first token it likes says little."""
    model = tiny_model()
    logits = model(input_ids=torch.tensor([TOKENIZER(RENDERED[0], add_special_tokens=False)["input_ids"]])).logits
    first = int(logits[0, -1].argmax())
    model.generation_config.eos_token_id = [2, first]
    (answer,) = generate(model, TOKENIZER, RENDERED[:1], max_new_tokens=5)
    assert answer == plain_answer(model, RENDERED[0], 5, ends=(2, first)) == TOKENIZER.decode([first]).strip()
    model.generation_config.eos_token_id = None
    (answer,) = generate(model, TOKENIZER, RENDERED[:1], max_new_tokens=5)
    assert answer == plain_answer(model, RENDERED[0], 5)


@pytest.mark.parametrize("kind", MODELS)
def test_the_output_head_sees_its_states_in_one_piece(kind):
    """At the last positions of several prompts, a slice, it would copy its weight for each of them."""
    model, seen = MODELS[kind](), []
    head = model.get_output_embeddings()
    assert head is not None
    head.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0].is_contiguous()))
    generate(model, TOKENIZER, RENDERED, max_new_tokens=2)
    assert len(seen) >= 2
    assert all(seen)
    assert not head._forward_pre_hooks


def test_no_hook_is_left_when_answering_fails():
    model = tiny_model()
    with pytest.raises(ZeroDivisionError):
        generate(model, TOKENIZER, RENDERED, max_new_tokens=1, progress=lambda count: count / 0)
    assert not model.lm_head._forward_pre_hooks


def test_a_head_may_take_its_states_by_name():
    """As a model with code of its own may hand them over."""
    model, seen = tiny_model(), []
    states = torch.zeros(1, model.lm_head.in_features)
    model.model.register_forward_hook(lambda *_: seen.append(model.lm_head(input=states)))
    generate(model, TOKENIZER, RENDERED, max_new_tokens=1)
    assert seen


def test_progress_counts_every_answer_once():
    steps = []
    generate(tiny_model(), TOKENIZER, RENDERED, max_new_tokens=1, batch_size=2, progress=steps.append)
    assert sum(steps) == len(RENDERED)
    assert generate(tiny_model(), TOKENIZER, []) == []


def test_the_modes_of_the_modules_are_left_as_they_were():
    model = tiny_model(dropout=0.9).train()
    model.model.norm.eval()
    before = [module.training for module in model.modules()]
    answers = generate(model, TOKENIZER, RENDERED, max_new_tokens=4)
    assert [module.training for module in model.modules()] == before
    assert answers == generate(tiny_model(), TOKENIZER, RENDERED, max_new_tokens=4)


def _with_head(change):
    model = tiny_model()
    head = model.get_output_embeddings()
    assert head is not None
    head.register_forward_hook(lambda _, inputs, logits: change(logits))
    return model


def _set(tokens, value):
    def change(logits):
        logits[..., tokens] = value
        return logits

    return change


@pytest.mark.parametrize(
    ("tokens", "value"), [(7, float("nan")), (7, float("inf")), (slice(None), float("-inf"))], ids=str
)
def test_logits_that_choose_nothing_are_an_error(tokens, value):
    sentence = r"^The logits of ORG/CHAT are NaN or infinite, .*--dtype float32.*or check its weights\.$"
    with pytest.raises(ModelError, match=sentence):
        generate(_with_head(_set(tokens, value)), TOKENIZER, RENDERED, max_new_tokens=3, name="ORG/CHAT")


def test_a_model_may_rule_out_tokens():
    model = _with_head(_set(slice(300, 384), float("-inf")))
    assert generate(model, TOKENIZER, RENDERED, max_new_tokens=3) == [plain_answer(model, each, 3) for each in RENDERED]


@pytest.mark.parametrize("kind", families.MODELS)
@pytest.mark.parametrize("batch_size", [1, 2, 4])
def test_answers_of_unlike_length_take_one_another_s_places(kind, batch_size):
    model = families.MODELS[kind]()
    whole = [plain_answer(model, prompt, 9) for prompt in [*RENDERED, *PROMPTS]]
    first = TOKENIZER(whole[0], add_special_tokens=False)["input_ids"][:1]
    model.generation_config.eos_token_id = [2, *first]
    expected = [plain_answer(model, prompt, 9, ends=(2, *first)) for prompt in [*RENDERED, *PROMPTS]]
    assert generate(model, TOKENIZER, [*RENDERED, *PROMPTS], max_new_tokens=9, batch_size=batch_size) == expected


def test_an_answer_ends_where_it_is_final_and_the_others_are_as_without_it():
    model, asked = tiny_model(seed=1), set()

    def is_final(row: int, text: str) -> bool:
        asked.add(row)
        return row == 3

    whole = [plain_answer(model, prompt, 9) for prompt in RENDERED]
    found = generate(model, TOKENIZER, RENDERED, max_new_tokens=9, batch_size=2, is_final=is_final)
    assert found[:3] + found[4:] == whole[:3] + whole[4:]
    assert whole[3].startswith(found[3]) and len(found[3]) < len(whole[3])
    assert asked == set(range(len(RENDERED)))


def test_an_ended_answer_leaves_the_batch(monkeypatch):
    model, rows = tiny_model(seed=1), []
    forward = model.forward
    noting = wraps(forward)(lambda *a, **k: (rows.append(len(k["input_ids"])), forward(*a, **k))[1])
    monkeypatch.setattr(model, "forward", noting)
    generate(model, TOKENIZER, RENDERED, max_new_tokens=9, is_final=lambda row, text: row > 0)
    assert rows[-1] == 1 and max(rows) == len(RENDERED)


def _windowed():
    """Its layers look back by 8 places, so that its batches stay whole."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return MistralForCausalLM(MistralConfig(**SIZES, sliding_window=8)).eval()


def test_a_whole_batch_ends_with_its_last_answer(monkeypatch):
    """The model does not reason, and takes no room for that."""
    model, limits, steps = _windowed(), [7, 3, 5, 7, 1], []
    generate(model, TOKENIZER, RENDERED, max_new_tokens=1)
    monkeypatch.setattr(model, "generate", lambda **settings: (steps.clear(), type(model).generate(model, **settings)))
    hook = model.register_forward_hook(lambda *_: steps.append(1))
    found = generate(model, TOKENIZER, RENDERED, max_new_tokens=limits, reasoning_tokens=40)
    hook.remove()
    assert found == [plain_answer(model, prompt, most) for prompt, most in zip(RENDERED, limits, strict=True)]
    assert len(steps) == 7


def test_an_answer_of_a_whole_batch_ends_where_it_is_final():
    model = _windowed()
    whole = [plain_answer(model, prompt, 9) for prompt in RENDERED]
    found = generate(model, TOKENIZER, RENDERED, max_new_tokens=9, is_final=lambda row, _: row == 3)
    assert found[:3] + found[4:] == whole[:3] + whole[4:]
    assert found[3] == plain_answer(model, RENDERED[3], 2) != whole[3]
