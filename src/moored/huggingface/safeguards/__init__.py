"""Safeguards at work in a trainer: row selection, penalties on weights and on tokens, and what they compare with."""
