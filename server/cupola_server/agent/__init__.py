"""The background service: one process per user and cache, independent of the terminal it was started from.

`cupola.discovery` starts it as `python -m cupola_server.agent` and finds it again. It runs the same service as `cupola
serve`, with rotating log files, an additional Unix domain socket, and a file that announces its addresses.
"""
