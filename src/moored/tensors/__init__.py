"""Pure functions on tensors that several methods share; torch only."""
