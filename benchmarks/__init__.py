"""Benchmarks to run as `python -m benchmarks.NAME`. Each prints a table and writes `results/NAME.json`."""
