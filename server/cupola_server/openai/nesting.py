"""How deep JSON is nested, told from its bytes: before anything recursive works on it, here or in a worker."""

import re
from itertools import accumulate

DEPTH_LIMIT = 100
"""Objects and arrays inside each other. The deepest schema that OpenAI takes has 10 levels."""

# One branch only can match at each place, and a string that never ends is one too, so this takes linear time.
_STRINGS = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_STEPS = bytes.maketrans(b"[{]}", b"\x01\x01\x00\x00")


def is_too_deep(body: bytes | bytearray) -> bool:
    """Whether JSON is nested deeper than `DEPTH_LIMIT`. Costs next to nothing unless there are many brackets."""
    if body.count(b"[") + body.count(b"{") <= DEPTH_LIMIT:
        return False
    steps = _STRINGS.sub(b"", body).translate(_STEPS, _NO_BRACKETS)
    return any(depth > DEPTH_LIMIT for depth in accumulate(step or -1 for step in steps))
