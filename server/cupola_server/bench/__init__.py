"""Benchmarks of models, settings, providers and peers side by side, and reports of them. Used by `cupola bench` alone.

It ships with the server because users choose providers and settings with it. It imports no runtime: inference runs in
a worker, in a `cupola serve` process, or in a process of the peer.
"""
