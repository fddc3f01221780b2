"""The only package that knows of several processes."""
