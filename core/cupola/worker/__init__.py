"""Worker processes: one per loaded model. `process` is the service's end, `child` and what it imports the worker's.

The residency is the only caller. The two ends speak length-prefixed msgpack frames over a socket pair.
"""
