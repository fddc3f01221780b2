"""`moored inspect`: per-row gradients, the spectrum of a safety gradient, and the safety basin."""
