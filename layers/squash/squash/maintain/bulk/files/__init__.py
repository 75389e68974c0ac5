"""Rows from input files, a piece at a time: one module a format."""
