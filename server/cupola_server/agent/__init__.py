"""The background service: one process for each user and cache, which outlives the terminal it was started from.

`cupola.discovery` starts it as `python -m cupola_server.agent` and finds it again. It is what `cupola serve` runs, with
a log in files, a Unix domain socket beside its port, and a file that says how it is reached.
"""
