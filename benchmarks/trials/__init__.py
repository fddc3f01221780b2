"""Scripts that fine-tune many models to compare methods with their controls, and the tables of what they found."""
