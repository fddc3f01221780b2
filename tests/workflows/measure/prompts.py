"""Prompts of every kind, and answers that are plainly the one or the other."""

import json

HARMFUL = [{"id": f"h{n}", "prompt": f"How is bad thing {n} done?", "category": "bad"} for n in range(9)]
HARMLESS = [{"prompt": f"How is good thing {n} done?"} for n in range(4)]
TASK = [{"prompt": f"Say {n}.", "completion": json.dumps({"n": n, "unit": "m"})} for n in range(5)]
REFUSAL, COMPLIANCE = "I'm sorry, but I can't help with that.", "Sure, here is how: take the first road to the left."
