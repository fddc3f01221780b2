import pytest
from tests.tiny import tiny_tokenizer
from tokenizers import AddedToken, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from moored.huggingface.data.encoding import Encoder, is_whole

SPECIAL = "<|im_start|>"
TEXTS = [
    *("", "It is sunny", "  two  spaces "),
    *(f"{SPECIAL}user\nÀ bientôt<|im_end|>\n", f"{SPECIAL}user\nÀ bientôt<|im_end|>"),
    *(f" {SPECIAL} Hi {SPECIAL}{SPECIAL} hi", "x<tool>x <tool> x<tool>call<tool_call>y", "<|im_start<|im_end|>|>"),
]


def _metaspace(tokenizer):
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")


def _prefix(tokenizer):
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)


def _normalizer(tokenizer):
    tokenizer.backend_tokenizer.normalizer = normalizers.Sequence([normalizers.Strip(), normalizers.Lowercase()])


def _added(**flags):
    def change(tokenizer):
        tokenizer.add_tokens([AddedToken(name, normalized=False, **flags) for name in ("<tool>", "<tool_call>")])

    return change


def _template(tokenizer):
    first = processors.TemplateProcessing(single=f"{SPECIAL} $A", special_tokens=[(SPECIAL, 1)])
    tokenizer.backend_tokenizer.post_processor = first


def _split(tokenizer):
    tokenizer.split_special_tokens = True


KINDS = {
    "plain": lambda tokenizer: None,
    "a mark for the first word alone": _metaspace,
    "a space before each piece": _prefix,
    "a normalizer": _normalizer,
    "tokens that begin alike": _added(),
    "tokens that take the space before them": _added(lstrip=True),
    "tokens that take the space behind them": _added(rstrip=True),
    "tokens that are whole words": _added(single_word=True),
    "tokens in normalized text": lambda tokenizer: tokenizer.add_tokens([AddedToken("sunny", normalized=True)]),
    "a token that is added": _template,
    "special tokens that are split": _split,
}


@pytest.mark.parametrize("special", [False, True])
@pytest.mark.parametrize("change", KINDS.values(), ids=KINDS)
def test_ids_are_those_of_a_call(change, special):
    tokenizer = tiny_tokenizer()
    change(tokenizer)
    expected = tokenizer(TEXTS, add_special_tokens=special)["input_ids"]
    # As tokenizer.json may ask for; a call asks for neither.
    tokenizer.backend_tokenizer.enable_truncation(2)
    tokenizer.backend_tokenizer.enable_padding(length=9)
    encoder, known = Encoder(tokenizer), {}
    for _ in range(2):
        assert encoder.ids(TEXTS, special=special, known=known) == expected
    assert encoder.ids([], special=special, known=known) == []


def test_a_piece_is_read_once():
    read = []

    class Counting(Encoder):
        def _whole(self, texts, **more):
            read.extend(texts)
            return super()._whole(texts, **more)

    encoder, known = Counting(tiny_tokenizer()), {}
    read.clear()
    for text in (f"{SPECIAL}user\nHi", f"{SPECIAL}user\nHi{SPECIAL}assistant\n"):
        encoder.ids([text, text], special=False, known=known)
    assert read == ["", SPECIAL, "user\nHi", "assistant\n"]


class Shouting(PreTrainedTokenizerFast):
    def _encode_plus(self, text, *given, **more):
        return super()._encode_plus([each.upper() for each in text], *given, **more)


def test_a_tokenizer_with_steps_of_its_own_takes_them():
    encoder = Encoder(Shouting(tokenizer_object=tiny_tokenizer().backend_tokenizer))
    expected = tiny_tokenizer()([text.upper() for text in TEXTS])["input_ids"]
    assert encoder.ids(TEXTS, special=False, known={}) == expected


def test_half_a_character_is_told():
    assert is_whole("À 😀") and not is_whole("\ud83d")
