"""Adapters of the peers that Cupola is compared with, one program each, run by `cupola bench --peer NAME`.

An adapter is a Python file with inline script metadata: the packages of its own virtual environment, and a table
`[tool.cupola-peer]`. It gets one argument, JSON (see `job.Job`), prints one line of JSON when it accepts requests, and
ends when its standard input does. It imports nothing of Cupola. `--peer path/to/file.py` runs any other adapter.
"""
