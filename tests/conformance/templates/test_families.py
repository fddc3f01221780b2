"""Chat templates of public families: the prompt, what is learned, where a turn ends."""

import pytest
from tests.conformance.cases import case
from tests.conformance.rows.shown import shown
from tests.conformance.templates.families import CHAT, FAMILIES

from moored.errors import ModelError
from moored.huggingface.data import Supervision, render_prompt, supervise
from moored.huggingface.data.template_marks import turn_end

FAST = {
    "ChatML",
    "Llama 3.2, with a date",
    "SmolVLM, parts alone",
    "Qwen3, which thinks",
    "DeepSeek-R1",
    "gpt-oss, in harmony",
}
EACH = [case(name, family, fast=name in FAST) for name, family in FAMILIES.items()]


@pytest.mark.parametrize("family", EACH)
def test_the_prompt(family):
    assert render_prompt(family.tokenizer(), "Hi there") == family.asked


@pytest.mark.parametrize("family", EACH)
def test_a_system_prompt(family):
    tokenizer = family.tokenizer()
    if family.system:
        assert "Be very brief." in render_prompt(tokenizer, "Hi there", "Be very brief.")
    else:
        with pytest.raises(ModelError, match=r"^the chat template (cannot render the roles system|leaves out)"):
            render_prompt(tokenizer, "Hi there", "Be very brief.")


@pytest.mark.parametrize("family", EACH)
def test_where_a_turn_ends(family):
    tokenizer = family.tokenizer()
    end = turn_end(tokenizer)
    assert (None if end is None else tokenizer.convert_ids_to_tokens(end)) == family.end


@pytest.mark.parametrize(
    "family", [case(name, family, fast=name in FAST) for name, family in FAMILIES.items() if family.learned]
)
def test_what_is_learned(family):
    tokenizer = family.tokenizer()
    rows = supervise([{"messages": CHAT}], Supervision(tokenizer=tokenizer), where="rows")
    assert shown(tokenizer, rows) == [family.learned]


UNMARKED = [case(name, family, outcome="refused", fast=True) for name, family in FAMILIES.items() if not family.learned]


@pytest.mark.parametrize("family", UNMARKED)
def test_rows_of_several_turns_that_cannot_be_told_apart(family):
    tokenizer = family.tokenizer()
    with pytest.raises(ModelError, match=r"In row 1 of rows: .* marks none with \{% generation %\}"):
        supervise([{"messages": CHAT}], Supervision(tokenizer=tokenizer), where="rows")
