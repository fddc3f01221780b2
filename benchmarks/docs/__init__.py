"""Scripts that write the tables and captured outputs of README.md and docs/."""
