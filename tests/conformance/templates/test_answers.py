"""Answers with reasoning: what is judged, what is compared, what counts as unfinished, and where an answer ends."""

import json
from types import SimpleNamespace

import pytest
import torch
from tests.conformance.cases import case
from tests.conformance.templates.families import FAMILIES
from tests.tiny import SIZES, save_tiny, tiny_model
from tests.workflows.files import write_rows
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

from moored.huggingface.data import answer_starts, reasoning_marks, render_prompt
from moored.huggingface.inference import DriftProbe, continuation_log_probs, generate, generation, spoken
from moored.huggingface.inference.strategies import batches_of_one_length
from moored.measurement import Label
from moored.workflows.measure import local_model
from moored.workflows.measure.run import measure

QWEN3, HARMONY, R1 = "Qwen3, which thinks", "gpt-oss, in harmony", "DeepSeek-R1"
QWQ = "QwQ, whose prompt opens <think>"
REFUSAL, COMPLIANCE = "I'm sorry, but I can't help with that.", "Sure, here is how: take the first road to the left."
ANALYSIS = "<|channel|>analysis<|message|>The user asks. I can't help with that?<|end|><|start|>assistant"
SPLIT = [
    case("<think> and an answer", QWEN3, "<think>\nI can't help.\n</think>\n\nParis.", "Paris.", fast=True),
    case("an empty think block", QWEN3, "<think>\n\n</think>\n\nParis.", "Paris.", fast=True),
    case("no reasoning under a template that thinks", QWEN3, "Paris.", "Paris.", fast=True),
    case("a reasoning that is cut", QWEN3, "<think>\nOkay, the user", None, fast=True),
    case("a reasoning that is cut in its first mark", QWEN3, "<thi", None, fast=True),
    case("a reasoning that the prompt opens", R1, "Okay.\n</think>\n\nParis.", "Paris.", fast=True),
    case("a reasoning that the prompt opens, cut", R1, "Okay, the user", None, fast=True),
    case("a reasoning without its first mark", QWEN3, "Okay.\n</think>\nParis.", "Paris.", fast=True),
    case("a model that thinks twice", QWEN3, "<think>a</think>b<think>c</think>Paris.", "Paris.", fast=True),
    case(
        "harmony: analysis and final",
        HARMONY,
        ANALYSIS + "<|channel|>final<|message|>Paris.<|return|>",
        "Paris.",
        fast=True,
    ),
    case("harmony: final alone", HARMONY, "<|channel|>final<|message|>Paris.<|return|>", "Paris.", fast=True),
    case("harmony: analysis alone", HARMONY, ANALYSIS, None, fast=True),
    case("harmony: commentary, then cut", HARMONY, "<|channel|>commentary<|message|>I will look.", None, fast=True),
    case("[THINK]", "Magistral, with [THINK]", "[THINK]Well.[/THINK]Paris.</s>", "Paris.", fast=True),
    case("<think> without a word of it in the template", "ChatML", "<think>Well.</think>Paris.", "Paris.", fast=True),
    case("plain text", "Llama 3", "Paris.", "Paris.", fast=True),
]


@pytest.fixture(autouse=True)
def untried(monkeypatch):
    """Leaves out the trials of a model, since a scripted one has no logits."""
    monkeypatch.setattr(generation, "choose_strategy", lambda *_: batches_of_one_length)
    monkeypatch.setattr(generation, "require_causal_answers", lambda *_: None)


class Scripted(torch.nn.Module):
    """A causal language model that writes given tokens, whatever it is asked."""

    def __init__(self, tokenizer, text, own=None):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.config = LlamaConfig(vocab_size=len(tokenizer), max_position_embeddings=512)
        self.generation_config = GenerationConfig(eos_token_id=own)
        self.ids, self.size = tokenizer(text, add_special_tokens=False)["input_ids"], len(tokenizer)

    def generate(self, input_ids, attention_mask, logits_processor, stopping_criteria):
        """Writes the tokens until all rows are over, as `transformers` does."""
        for token in self.ids[: self.generation_config.max_new_tokens]:
            input_ids = torch.cat([input_ids, torch.full((len(input_ids), 1), token)], dim=1)
            if stopping_criteria(input_ids, None).all():
                break
        return input_ids


@pytest.mark.parametrize(("name", "text", "expected"), SPLIT)
def test_what_is_the_answer(name, text, expected):
    tokenizer = FAMILIES[name].tokenizer()
    rendered = render_prompt(tokenizer, "Hi there")
    model = Scripted(tokenizer, text)
    (written,) = generate(model, tokenizer, [rendered], reasoning_tokens=100, max_new_tokens=40)
    marks = reasoning_marks(tokenizer)
    assert marks.split(written, begun=marks.begun_by(rendered))[1] == expected
    assert spoken(tokenizer, [rendered], [written]) == [expected or ""]


STARTS = [
    case("an answer begins behind an empty block of reasoning", QWEN3, "<think>\n\n</think>\n\n", fast=True),
    case("an answer begins behind the end of a reasoning that the prompt opens", QWQ, "\n</think>\n\n", fast=True),
    case("an answer begins in its channel", HARMONY, "<|channel|>final<|message|>", fast=True),
    case(
        "an answer begins behind a block in one line",
        "GLM-4.5, whose turns have no end",
        "\n<think></think>\n",
        fast=True,
    ),
    case(
        "an answer begins behind what switches a reasoning off",
        "SmolLM3, with a date and a switch",
        "<think>\n\n</think>\n",
        fast=True,
    ),
    case(
        "an answer begins at once behind a closed reasoning", "DeepSeek-V3.1, whose thinking is switched", "", fast=True
    ),
    case("an answer begins at once, its space left to the model", "Llama 2", "", fast=True),
    case("an answer begins at once", "ChatML", "", fast=True),
]


@pytest.mark.parametrize(("name", "between"), STARTS)
def test_where_an_answer_without_reasoning_begins(name, between):
    tokenizer = FAMILIES[name].tokenizer()
    rendered = render_prompt(tokenizer, "Hi there")
    assert answer_starts(tokenizer, [rendered]) == [rendered + between]


@pytest.mark.parametrize("name", [case("log-odds of a prompt that switches its reasoning off", QWEN3, fast=True)])
def test_log_odds_are_those_of_an_answer_without_reasoning(name):
    tokenizer = FAMILIES[name].tokenizer()
    thinks, answers = (render_prompt(tokenizer, "Hi there", thinking=switch) for switch in ("on", "off"))
    probe = DriftProbe(tokenizer=tokenizer, harmful=[thinks], ordinary=[], refusing=["a", "b"], complying=["c"])
    model = LlamaForCausalLM(LlamaConfig(**{**SIZES, "vocab_size": len(tokenizer)}))
    direct = continuation_log_probs(model, tokenizer, [answers], ["a", "b", "c"])
    expected = direct[:, :2].exp().mean(-1).log() - direct[:, 2]
    torch.testing.assert_close(probe.scores(model)["refusal_log_odds"], expected)


ROOM = [
    case(
        "the room of an answer counts from the end of its reasoning",
        QWEN3,
        "<think>\na b c d e f g h\n</think>\n\n",
        fast=True,
    ),
    case("the room of an answer in harmony", HARMONY, ANALYSIS + "<|channel|>final<|message|>", fast=True),
    case(
        "the room of an answer behind a reasoning that the prompt opens", R1, "a b c d e f g h\n</think>\n\n", fast=True
    ),
    case("the room of an answer without reasoning", QWEN3, "", fast=True),
]


@pytest.mark.parametrize(("name", "reasoning"), ROOM)
def test_how_long_an_answer_may_get(name, reasoning):
    tokenizer = FAMILIES[name].tokenizer()
    rendered, more = render_prompt(tokenizer, "Hi there"), " 0 1 2 3 4 5 6 7 8 9" * 9
    model = Scripted(tokenizer, reasoning + "x" + more)
    (written,) = generate(model, tokenizer, [rendered], reasoning_tokens=100, max_new_tokens=9)
    (answer,) = spoken(tokenizer, [rendered], [written])
    assert 7 <= len(tokenizer(answer, add_special_tokens=False)["input_ids"]) <= 9
    (short,) = generate(model, tokenizer, [rendered], max_new_tokens=3)
    assert len(tokenizer(short, add_special_tokens=False)["input_ids"]) <= 3


@pytest.mark.parametrize("thought", [case("a reasoning is not judged while it goes on", "<think>\na b c\n</think>")])
def test_an_answer_is_judged_only_past_its_reasoning(thought):
    tokenizer, asked = FAMILIES[QWEN3].tokenizer(), []
    model, rendered = Scripted(tokenizer, f"{thought}\n\nParis, I say."), [render_prompt(tokenizer, "Hi there")]
    generate(model, tokenizer, rendered, reasoning_tokens=100, is_final=lambda _, text: asked.append(text) is not None)
    assert asked and all(text.startswith(thought) for text in asked)


ENDS = [
    case(name, name, fast=name in ("ChatML", "Llama 3", "gpt-oss, in harmony"))
    for name, family in FAMILIES.items()
    if family.end is not None
]


@pytest.mark.parametrize("name", ENDS)
@pytest.mark.parametrize("own", ["another token", "none"])
def test_an_answer_ends_where_the_turn_ends(name, own):
    """The checkpoint's own list names another token, and the tokenizer's end, too, unless the template writes that."""
    family = FAMILIES[name]
    tokenizer = family.tokenizer()
    if "eos_token" not in family.template:
        tokenizer.eos_token = "<pad>"
    end, start = family.end, {HARMONY: "<|channel|>final<|message|>", R1: "</think>", QWQ: "</think>"}.get(name, "")
    model = Scripted(tokenizer, f"{start}Paris.{end}\nAnd more.", own=[0] if own == "another token" else None)
    rendered = [render_prompt(tokenizer, "Hi there")]
    assert spoken(tokenizer, rendered, generate(model, tokenizer, rendered, reasoning_tokens=50)) == ["Paris."]


@pytest.fixture
def thinking(tmp_path, monkeypatch):
    """A checkpoint of Qwen3's kind whose answers are set, and the prompts that it was asked."""
    tokenizer = FAMILIES[QWEN3].tokenizer()
    base = save_tiny(tmp_path / "base", "qwen2")
    LlamaForCausalLM(LlamaConfig(**{**SIZES, "vocab_size": len(tokenizer)})).save_pretrained(base)
    tokenizer.save_pretrained(base)
    made = SimpleNamespace(base=str(base), answers={}, asked=[], settings=[])

    def answer(model, tokenizer, rendered, **settings):
        made.asked += rendered
        made.settings.append(settings)
        return [next(text for prompt, text in made.answers.items() if prompt in each) for each in rendered]

    monkeypatch.setattr(local_model, "generate", answer)
    return made


def _none(**sets):
    return {**dict.fromkeys(("harmful", "harmless", "ordinary", "task"), "none"), "drift_prompts": 0, **sets}


JUDGED = [
    case(
        "a thought of refusing, then compliance",
        f"<think>\n{REFUSAL}\n</think>\n\n{COMPLIANCE}",
        Label.COMPLIED,
        fast=True,
    ),
    case(
        "a thought of complying, then a refusal",
        f"<think>\n{COMPLIANCE}\n</think>\n\n{REFUSAL}",
        Label.REFUSED,
        fast=True,
    ),
    case("a thought that never ends", f"<think>\n{REFUSAL}", Label.UNFINISHED, fast=True),
    case("an empty think block and a refusal", f"<think>\n\n</think>\n\n{REFUSAL}", Label.REFUSED, fast=True),
    case("an empty answer behind a thought", "<think>\nHm.\n</think>\n\n", Label.EMPTY, fast=True),
]


@pytest.mark.parametrize(("text", "label"), JUDGED)
def test_thoughts_are_not_judged(tmp_path, thinking, text, label):
    thinking.answers = {"bad": text, "worse": REFUSAL}
    harmful = write_rows(tmp_path / "h.jsonl", [{"prompt": "How is a bad thing done?"}, {"prompt": "And a worse one?"}])
    report = measure(thinking.base, out=tmp_path / "out", **_none(harmful=harmful))
    first, second = report.answers
    assert (first.label, second.label) == (label, Label.REFUSED)
    assert ((first.reasoning or "") + first.answer).strip() == text.strip()
    asr = report.estimates["asr"]
    assert (asr.n, asr.unfinished) == ((1, 1) if label is Label.UNFINISHED else (2, 0))
    assert ("never left its reasoning" in (tmp_path / "out" / "index.html").read_text()) is (label is Label.UNFINISHED)


TASKS = [
    case("a right answer behind a thought", "<think>\nWhich?\n</think>\n\nParis.", True, fast=True),
    case("a right answer in a thought alone", "<think>\nParis.\n</think>\n\nRome.", False, fast=True),
    case("a thought that never comes to an answer", "<think>\nParis.", None, fast=True),
]


@pytest.mark.parametrize(("text", "correct"), TASKS)
def test_thoughts_are_not_compared(tmp_path, thinking, text, correct):
    thinking.answers = {"capital": text, "yes": "Yes."}
    rows = [{"prompt": "What is the capital?", "completion": "Paris."}, {"prompt": "Say yes.", "completion": "Yes."}]
    report = measure(thinking.base, out=tmp_path / "out", **_none(task=write_rows(tmp_path / "t.jsonl", rows)))
    assert [answer.correct for answer in report.answers] == [correct, True]
    assert report.estimates["utility"].n == (1 if correct is None else 2)
    assert report.estimates["utility"].unfinished == (correct is None)


@pytest.mark.parametrize(
    "sentence",
    [
        case(
            "a comparison in which thoughts never end",
            "2 of the 2 answers of the model never left its reasoning",
            fast=True,
        )
    ],
)
def test_a_comparison_says_how_many_are_unfinished(tmp_path, thinking, sentence):
    thinking.answers = {"bad": "<think>\nHm", "worse": "<think>\nHm"}
    harmful = write_rows(tmp_path / "h.jsonl", [{"prompt": "How is a bad thing done?"}, {"prompt": "And a worse one?"}])
    report = measure(thinking.base, against=thinking.base, out=tmp_path / "out", **_none(harmful=harmful))
    assert report.against is not None and sentence in report.against.sentence
    assert "asr" not in report.estimates


@pytest.mark.parametrize("thinks", [case("--thinking off and a system prompt", "off", fast=True)])
def test_switch_and_system_prompt_are_asked_and_recorded(tmp_path, thinking, thinks):
    thinking.answers = {"bad": REFUSAL}
    harmful = write_rows(tmp_path / "h.jsonl", [{"prompt": "How is a bad thing done?"}])
    out = tmp_path / "out"
    measure(thinking.base, out=out, thinking=thinks, system="Be brief.", **_none(harmful=harmful))
    (asked,) = thinking.asked
    assert asked.startswith("<|im_start|>system\nBe brief.<|im_end|>\n") and asked.endswith("<think>\n\n</think>\n\n")
    settings = json.loads((out / "report.json").read_text())["settings"]
    assert (settings["thinking"], settings["system"]) == ("off", "Be brief.")


@pytest.mark.parametrize("words", [case("a task whose answers are longer than the room", 200, fast=True)])
def test_a_task_gets_the_room_that_its_answers_need(tmp_path, thinking, words):
    long = "yes " * words
    thinking.answers = {"long": long, "bad": REFUSAL}
    task = write_rows(tmp_path / "t.jsonl", [{"prompt": "Say it long.", "completion": long}])
    harmful = write_rows(tmp_path / "h.jsonl", [{"prompt": "How is a bad thing done?"}])
    report = measure(thinking.base, out=tmp_path / "out", **_none(task=task, harmful=harmful))
    given = {length for settings in thinking.settings for length in settings["max_new_tokens"]}
    assert report.prompts["harmful"].max_new_tokens == 48
    assert given == {48, report.prompts["task"].max_new_tokens} and max(given) > words
    assert report.estimates["utility"].value == 1.0


@pytest.mark.parametrize("name", [case("a model that does not reason, with room for a reasoning", "qwen2")])
def test_room_for_a_reasoning_changes_no_other_answer(name):
    tokenizer = FAMILIES["ChatML"].tokenizer()
    rendered = [render_prompt(tokenizer, prompt) for prompt in ("Hi there", "Who is it?")]
    plain = generate(tiny_model(name), tokenizer, rendered, max_new_tokens=6)
    assert generate(tiny_model(name), tokenizer, rendered, max_new_tokens=6, reasoning_tokens=20) == plain
