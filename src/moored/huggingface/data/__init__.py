"""Data: reading rows, rendering chats, and saying which tokens are supervised."""

from moored.huggingface.data.chat import render_chat, render_prompt, rendering_hash, template_date
from moored.huggingface.data.chat_turns import IGNORED
from moored.huggingface.data.dataset_folder import features_of, save_rows, unfit_for_json
from moored.huggingface.data.empty_rows import drop_empty_rows
from moored.huggingface.data.preparation import prepare_rows
from moored.huggingface.data.row_tokens import Supervision
from moored.huggingface.data.stream import RowStream, open_rows, read_rows
from moored.huggingface.data.supervision import supervise
from moored.huggingface.data.template_marks import answer_starts, reasoning_marks, turn_end
from moored.huggingface.data.token_batches import largest_token, tokens_hash
from moored.huggingface.data.token_lists import read_token_texts
from moored.huggingface.data.token_texts import random_token_ids, single_token, special_ids, token_ids, token_text

__all__ = [
    "IGNORED",
    "RowStream",
    "Supervision",
    "answer_starts",
    "drop_empty_rows",
    "features_of",
    "largest_token",
    "open_rows",
    "prepare_rows",
    "random_token_ids",
    "read_rows",
    "read_token_texts",
    "reasoning_marks",
    "render_chat",
    "render_prompt",
    "rendering_hash",
    "save_rows",
    "single_token",
    "special_ids",
    "supervise",
    "template_date",
    "token_ids",
    "token_text",
    "tokens_hash",
    "turn_end",
    "unfit_for_json",
]
