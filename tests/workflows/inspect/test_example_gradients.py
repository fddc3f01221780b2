import torch
from tests.tiny import tiny_model, tiny_tokenizer

from moored.embedded.prompts import openings, ordinary_instructions
from moored.huggingface.gradients.example_loss import example_loss
from moored.workflows.inputs.example_pool import unpooled_pairs
from moored.workflows.inspect.example_gradients import complied_with, mean_loss, ordinary, refused


def test_the_same_requests_are_refused_and_complied_with():
    requests = {pair.harmful for pair in unpooled_pairs()}
    no, yes = refused(40), complied_with(40)
    assert [prompt for prompt, _ in no] == [prompt for prompt, _ in yes] and {prompt for prompt, _ in no} <= requests
    assert {answer for _, answer in no} == set(openings().refusals)
    assert {answer for _, answer in yes} == set(openings().complying)


def test_ordinary_examples_are_beginnings_of_answers_as_long_as_openings():
    answers = {item.prompt: item.answer for item in ordinary_instructions("align")}
    for prompt, answer in ordinary(20):
        assert answer and len(answer.split()) <= 8 and " ".join(answers[prompt].split()).startswith(answer)


def test_the_parts_add_up_to_the_mean_each_time():
    model, tokenizer, examples = tiny_model(), tiny_tokenizer(), refused(3)
    parts = mean_loss(model, tokenizer, examples)
    wanted = torch.stack([example_loss(model, tokenizer, *each)() for each in examples]).mean()
    for _ in range(2):
        torch.testing.assert_close(sum(parts()), wanted)
