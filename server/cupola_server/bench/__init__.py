"""Measures models, settings, providers and peers side by side, and reports it. Called by `cupola bench` alone.

It ships with the server because users choose providers and settings with it. It imports no runtime: whatever computes
runs in a worker, in a `cupola serve` process, or in a peer's process of its own.
"""
