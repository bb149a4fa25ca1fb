"""Runnable benchmarks: `python -m benchmarks.NAME`. Each prints a table and writes its figures as JSON."""
