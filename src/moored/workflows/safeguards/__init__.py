"""The catalogue of safeguards, and what they need: safety tokens and harmful examples."""
