"""Baselines that benchmarks compare with. Each is a process that reads one JSON request per line and responds to it."""
