"""Data: reading rows, rendering chats, and saying which tokens are supervised."""

from moored.huggingface.data.chat import render_prompt, rendering_hash
from moored.huggingface.data.formats import as_table, read_rows
from moored.huggingface.data.saved import features_of, save_rows, unfit_for_json
from moored.huggingface.data.stream import RowStream, open_rows
from moored.huggingface.data.supervision import IGNORED, Supervision, drop_empty_rows, supervise

__all__ = [
    "IGNORED",
    "RowStream",
    "Supervision",
    "as_table",
    "drop_empty_rows",
    "features_of",
    "open_rows",
    "read_rows",
    "render_prompt",
    "rendering_hash",
    "save_rows",
    "supervise",
    "unfit_for_json",
]
