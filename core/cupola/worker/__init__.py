"""Worker processes, one per loaded model. `process` is the service's end; `child` and `loop` run in the worker.

Only the residency and tuning start workers. Both ends exchange length-prefixed msgpack frames over a socket pair.
"""
