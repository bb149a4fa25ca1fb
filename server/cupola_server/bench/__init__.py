"""Benchmarks of models, settings, providers and peers, and reports of them. Used by `cupola bench` and `benchmarks/`.

It ships with the server because users choose providers and settings with it. It imports no runtime: inference runs in
a worker, in a `cupola serve` process, or in a process of the peer.
"""
