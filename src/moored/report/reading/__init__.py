"""Typed readers of reports and answers."""
