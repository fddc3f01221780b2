import json

import pytest
from tests.huggingface.inference.chats import ids_of, plain_logits
from tests.tiny import tiny_model, tiny_tokenizer

import moored
from moored.embedded.prompts import request_pairs
from moored.errors import InactiveError, InputError, ModelError
from moored.huggingface.data import read_token_texts, render_prompt, token_ids
from moored.workflows.safeguards import tokens as module
from moored.workflows.safeguards.keywords import FUNCTION_WORDS, keyword_positions
from moored.workflows.safeguards.tokens import find_safety_tokens, write_safety_tokens

TOKENIZER = tiny_tokenizer()
IDS = TOKENIZER.get_vocab()
CANNOT, CANT, COMPLIED = "I cannot help with that.", "Sorry, I can't assist the user.", "It is Paris, and it is sunny."
ANSWERS = {"one": CANNOT, "two": COMPLIED, "three": CANT, "four": CANNOT}
# The tokens of both refusals that may tell: no function word, no punctuation, no rest of a word.
TELLING = {CANNOT: [" canno", " help"], CANT: [" can", "'t", " assist", " user"]}
WORDS = [*TELLING[CANNOT], *TELLING[CANT]]


@pytest.fixture
def answered(monkeypatch):
    """The model's answers are these, whatever it is; the lists are of the calls."""
    calls = []

    def answer(model, tokenizer, rendered, **settings):
        calls.append((model, settings))
        by_text = {render_prompt(tokenizer, prompt): text for prompt, text in ANSWERS.items()}
        return [by_text[each] for each in rendered]

    monkeypatch.setattr(module, "generate", answer)
    return calls


def _find(model=None, **settings):
    return find_safety_tokens(model or tiny_model(), TOKENIZER, **{"prompts": list(ANSWERS), **settings})


def test_without_a_base_the_occurrences_a_refusal_decide(answered):
    found = _find()
    assert {token.text: token.frequency for token in found if token.frequency} == {
        **{text: pytest.approx(2 / 3) for text in TELLING[CANNOT]},
        **{text: pytest.approx(1 / 3) for text in TELLING[CANT]},
    }
    assert {token.text for token in found[:2]} == set(TELLING[CANNOT])
    assert all(token.gain is None and token.score == token.frequency for token in found)
    assert token_ids([token.text for token in found], TOKENIZER) == [token.id for token in found]


def test_other_spellings_stand_behind_the_one_that_was_found(answered):
    found = _find()
    texts = [token.text for token in found]
    at = texts.index(" user")
    # Of user, User, " user" and " User" these two are single tokens.
    assert [text for text in texts if "user" in text.lower()] == texts[at : at + 2] == [" user", "user"]
    assert (found[at + 1].frequency, found[at + 1].gain, found[at + 1].score) == (0, None, 0)
    assert len(texts) == 7


def test_with_a_base_the_gain_of_each_occurrence_counts_where_it_is_above_zero(answered):
    model, base = tiny_model(seed=0), tiny_model(seed=6)
    gains = {}
    for prompt, answer in ANSWERS.items():
        if answer == COMPLIED:
            continue
        own, other = (
            plain_logits(each, render_prompt(TOKENIZER, prompt), answer).log_softmax(1) for each in (model, base)
        )
        for position, token in enumerate(ids_of(answer)):
            gains.setdefault(token, []).append(max(0.0, float(own[position, token] - other[position, token])))
    expected = {token: each for token, each in gains.items() if sum(each) and _text(token) in WORDS}
    # One of them is likelier at one place and less likely at another.
    assert any(0 in each for each in expected.values())
    found = _find(model, base=base)
    scored = {token.id: token for token in found if token.frequency}
    assert scored.keys() == expected.keys()
    for token, each in expected.items():
        assert scored[token].gain == pytest.approx(sum(each) / len(each), abs=1e-4)
        assert scored[token].score == pytest.approx(sum(each) / 3, abs=1e-4)
    assert found[0].score == max(token.score for token in found)


def _text(token):
    return TOKENIZER.decode([token])


def test_only_the_beginning_of_each_refusal_counts(answered):
    assert [token.text for token in _find(answer_tokens=2)] == [" canno"]
    # An answer is judged by more than that.
    assert answered[0][1]["max_new_tokens"] == 32


def test_no_more_than_were_asked_for_and_the_best_of_them(answered):
    assert [token.text for token in _find(count=3)] == [token.text for token in _find()][:3]


def test_the_same_model_as_base_gains_nothing_and_says_so(answered):
    model = tiny_model()
    with pytest.raises(InactiveError, match="3 refusals contain no keyword that is likelier under the model"):
        _find(model, base=model)


def test_a_model_that_refuses_nothing_has_no_tokens(answered):
    with pytest.raises(InactiveError, match="refused none of 1 harmful requests"):
        _find(prompts=["two"])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"count": 0}, "count=...\\) must be at least 1, got 0"),
        ({"answer_tokens": 0}, "answer_tokens=...\\) must be at least 1, got 0"),
        ({"prompts": []}, "is empty; give at least one harmful request"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(answered, settings, message):
    with pytest.raises(InputError, match=message):
        _find(**settings)


def test_a_base_of_a_smaller_vocabulary_is_refused(answered):
    base = tiny_model()
    base.resize_token_embeddings(100)
    with pytest.raises(
        ModelError, match=f"vocabulary of 100 tokens, but the aligned model's tokenizer has {len(TOKENIZER)}"
    ):
        _find(base=base)
    assert not answered


def test_a_tokenizer_without_a_chat_template_is_refused():
    with pytest.raises(ModelError, match="no chat template"):
        find_safety_tokens(tiny_model(), tiny_tokenizer(None), prompts=["one"])


def test_by_default_it_asks_the_embedded_requests_of_all_categories(monkeypatch):
    asked = []
    monkeypatch.setattr(
        module, "generate", lambda model, tokenizer, rendered, **_: asked.extend(rendered) or [CANNOT] * 128
    )
    find_safety_tokens(tiny_model(), TOKENIZER)
    pairs = {render_prompt(TOKENIZER, pair.harmful): pair.category for pair in request_pairs("align")}
    counts = [sum(pairs[each] == category for each in asked) for category in set(pairs.values())]
    assert len(asked) == len(set(asked)) == 128 and max(counts) - min(counts) <= 1


def test_what_is_written_is_read_again_and_can_be_edited(answered, tmp_path):
    found, file = _find(base=tiny_model(seed=1)), tmp_path / "adapter" / "safety_tokens.json"
    write_safety_tokens(found, file)
    assert read_token_texts(file) == tuple(token.text for token in found)
    rows = json.loads(file.read_text(encoding="utf-8"))
    assert set(rows[0]) == {"text", "id", "frequency", "gain", "score"}
    file.write_text(json.dumps([*rows[:1], " request"]), encoding="utf-8")
    assert read_token_texts(file) == (found[0].text, " request")


@pytest.mark.parametrize(
    ("texts", "kept"),
    [
        ([" I", " can", "'t", " help"], [" can", "'t", " help"]),
        ([" I", " can", " help"], [" help"]),
        ([" can", "not", " do"], [" can", "not"]),
        ([" I", " am", " not", " going"], [" not"]),
        ([" apolog", "ize", ",", " 12", " —", "\n", ""], [" apolog"]),
        (["Unfortunately", ",", " no"], ["Unfortunately", " no"]),
    ],
)
def test_negations_and_whole_words_tell(texts, kept):
    assert [texts[position] for position in keyword_positions(texts, len(texts))] == kept
    assert keyword_positions(texts, 1) == [
        position for position in keyword_positions(texts, len(texts)) if position < 1
    ]


def test_no_word_of_refusal_counts_as_a_function_word():
    refusing = "no not never cannot nor neither unable sorry unfortunately against without won don refuse decline"
    assert not set(refusing.split()) & FUNCTION_WORDS


def test_it_is_exported():
    assert moored.find_safety_tokens is find_safety_tokens


@pytest.mark.real_model
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_the_embedded_aligned_model_refuses_by_words_that_a_reader_would_name():
    from moored.huggingface.models import load_model, load_tokenizer
    from moored.workflows.inputs.models import resolve_model

    aligned, base = resolve_model("embedded:aligned"), resolve_model("embedded:base")
    tokenizer = load_tokenizer(aligned)
    prompts = [pair.harmful for pair in request_pairs("align")[::270]]

    found = find_safety_tokens(
        load_model(aligned, merge=True), tokenizer, base=load_model(base), prompts=prompts, count=24
    )

    texts = [token.text for token in found]
    assert 10 <= len(texts) <= 24 and {" sorry", "'t"} <= set(texts)
    assert token_ids(texts, tokenizer) == [token.id for token in found]
    assert not {" the", ",", " I", "."} & set(texts)
