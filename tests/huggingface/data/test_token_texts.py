import pytest
from tests.tiny import tiny_tokenizer
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from moored.errors import InputError
from moored.huggingface.data import random_token_ids, single_token, special_ids, token_ids, token_text

TOKENIZER = tiny_tokenizer()
IDS = TOKENIZER.get_vocab()
SPECIAL = {"<pad>", "<|im_start|>", "<|im_end|>"}


def _sentence_piece():
    """As Llama 2's: spaces are parts of pieces, and the start of a text gets one of its own."""
    pieces = ["<unk>", "▁", "\n", "▁cannot", "cannot", "▁help", "can", "not"]
    tokenizer = Tokenizer(models.Unigram([(piece, -float(at)) for at, piece in enumerate(pieces)], unk_id=0))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="first")
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", eos_token="\n")


def test_every_token_that_is_text_is_found_again_by_its_text():
    read = {token: text for token in IDS.values() if (text := token_text(token, TOKENIZER)) is not None}
    ordinary = [token for token in read if token not in special_ids(TOKENIZER)]
    assert token_ids([read[token] for token in ordinary], TOKENIZER) == ordinary
    assert len(ordinary) > 200 and {" help", " can", "'t", "user", " user"} <= set(read.values())


def test_bytes_that_are_no_text_alone_have_none():
    broken = [token for name, token in IDS.items() if name == "Ã"]
    assert len(broken) == 1 and token_text(broken[0], TOKENIZER) is None


def test_a_leading_space_makes_another_token():
    assert token_ids([" user", "user"], TOKENIZER) == [IDS["Ġuser"], IDS["user"]]


def test_a_tokenizer_that_puts_a_space_in_front_of_a_text_keeps_both_spellings_apart():
    tokenizer = _sentence_piece()
    ids = tokenizer.get_vocab()
    assert [token_text(ids[name], tokenizer) for name in ("▁cannot", "cannot", "can")] == [" cannot", "cannot", "can"]
    assert token_ids([" cannot", "cannot"], tokenizer) == [ids["▁cannot"], ids["cannot"]]
    # No token within running text, but one at the start of a text.
    assert token_ids(["help"], tokenizer) == [ids["▁help"]]


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ([], "There is no safety token"),
        ([" user", " cannot"], "' cannot' is 2 tokens of this tokenizer; name texts of one token each"),
        (["user", "<|im_end|>"], "'<|im_end|>' is a special token"),
        ([" user", "user", " user"], "' user' and ' user' are the same one"),
        ([""], "'' is 0 tokens"),
    ],
)
def test_what_is_no_single_token_is_refused_by_name(texts, message):
    with pytest.raises(InputError) as caught:
        token_ids(texts, TOKENIZER)
    assert message in str(caught.value)


def test_two_spellings_of_one_token_are_refused():
    with pytest.raises(InputError, match="' help' and 'help' are the same one"):
        token_ids([" help", "help"], _sentence_piece())


def test_the_control_draws_as_many_other_tokens_by_its_seed():
    ids = [IDS["Ġuser"], IDS["Ġhelp"], IDS["'t"]]
    drawn = random_token_ids(ids, TOKENIZER, seed=3)
    assert len(set(drawn)) == 3 and drawn == sorted(drawn) == random_token_ids(ids, TOKENIZER, seed=3)
    assert drawn != random_token_ids(ids, TOKENIZER, seed=4)


def test_the_control_draws_neighbours_in_the_vocabulary():
    ids = [5, 700, 20]
    tokenizer = _numbers(1000)
    drawn = random_token_ids(ids, tokenizer, seed=1)
    assert all(abs(one - other) <= 34 for one, other in zip(drawn, sorted(ids), strict=True))
    apart = {random_token_ids([500], tokenizer, seed=seed)[0] for seed in range(200)}
    assert min(apart) < 480 and max(apart) > 520 and 500 not in apart


def _numbers(count):
    """A tokenizer of so many tokens."""
    words = models.WordLevel({str(number): number for number in range(count)}, unk_token="0")
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer(words))


def test_the_control_may_draw_any_token_but_these_and_the_special_ones():
    ordinary = sorted(set(IDS.values()) - special_ids(TOKENIZER))
    half = (len(ordinary) + 1) // 2
    assert set(random_token_ids(ordinary[half:], TOKENIZER, seed=0)) <= set(ordinary[:half])
    with pytest.raises(InputError, match=f"has {half - 1} other tokens, too few to draw {len(ordinary) - half + 1}"):
        random_token_ids(ordinary[half - 1 :], TOKENIZER, seed=0)


def test_special_tokens_are_those_of_the_tokenizer():
    assert special_ids(TOKENIZER) == {IDS[name] for name in SPECIAL}
    assert single_token("<pad>", TOKENIZER) == [IDS["<pad>"]]
