"""`moored recover`: a repair with one safety example, or by a formula towards the aligned weights."""
