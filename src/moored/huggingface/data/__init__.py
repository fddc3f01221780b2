"""Data: reading rows, rendering chats, and saying which tokens are supervised."""

from moored.huggingface.data.chat import render_prompt, rendering_hash
from moored.huggingface.data.formats import read_rows
from moored.huggingface.data.supervision import IGNORED, Supervision, drop_empty_rows, supervise

__all__ = ["IGNORED", "Supervision", "drop_empty_rows", "read_rows", "render_prompt", "rendering_hash", "supervise"]
