"""What a chat template tells of the turns that it renders."""

from tests.tiny import CHATML, tiny_tokenizer

from moored.huggingface.data.template_marks import turn_end


def test_a_turn_may_end_with_the_first_token_of_the_vocabulary():
    last = "{{ '<pad>' if loop.last else '<|im_end|>' }}"
    tokenizer = tiny_tokenizer(CHATML.replace("<|im_end|>", last))
    assert tokenizer.convert_tokens_to_ids("<pad>") == 0
    assert turn_end(tokenizer) == 0


def test_the_mark_of_the_next_turn_ends_one_that_has_no_mark_of_its_own():
    tokenizer = tiny_tokenizer(CHATML.replace("<|im_end|>", ""))
    assert turn_end(tokenizer) == tokenizer.convert_tokens_to_ids("<|im_start|>")
