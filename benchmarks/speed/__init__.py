"""Scripts that time commands and methods against other ways to do the same."""
