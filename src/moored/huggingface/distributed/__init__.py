"""The only package that asks how many processes take part in a run and what the other ones have."""
