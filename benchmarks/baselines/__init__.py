"""Processes that a benchmark compares with: they read one JSON request a line and answer each with one line."""
