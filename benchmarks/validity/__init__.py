"""Scripts that check the judge, the embedded models and what lies around them."""
