"""Whole pages: HTML, and tables for the terminal."""
