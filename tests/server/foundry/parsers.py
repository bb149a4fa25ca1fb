"""The rules by which four clients read the stream of a download, as far as their behaviour is known.

Each is given the chunks as they came over the wire and returns (progress seen, result), or raises ValueError.
"""

import json
import re

_PERCENT = re.compile(r"(\d+(?:\.\d+)?)%")


def lines_of(chunks):
    return b"".join(chunks).decode().splitlines()


def python_sdk(chunks):
    """By lines; from the first that begins with a brace on, everything is the result."""
    seen, final = [], ""
    for line in lines_of(chunks):
        if final or line.startswith("{"):
            final += line
        elif found := _PERCENT.search(line):
            seen.append(min(float(found[1]), 100.0))
    if not final.endswith("}"):
        raise ValueError(final)
    return seen, json.loads(final)


def javascript_sdk(chunks):
    """By chunks; from the first that begins with a brace on, everything is the result."""
    seen, final = [], ""
    for chunk in chunks:
        text = chunk.decode()
        if final or text.startswith("{"):
            final += text
        elif found := _PERCENT.search(text):
            seen.append(float(found[1]))
    if not final:
        raise ValueError("no result")
    return seen, json.loads(final)


def csharp_sdk(chunks):
    """By lines; a result is looked for after [DONE] only, and is whole at a line that is a lone closing brace."""
    seen, done, collected = [], False, []
    for line in lines_of(chunks):
        if line.startswith("Total") and "Downloading" in line and "%" in line:
            seen.append(float(_PERCENT.search(line)[1]))
        elif "[DONE]" in line or "All Completed" in line:
            done = True
        elif done and (collected or line.startswith("{")):
            collected.append(line)
            if line.strip() == "}":
                return seen, json.loads("\n".join(collected))
    raise ValueError("no result")


def csharp_sdk_at_once(chunks):
    """Without progress: the text from the last opening brace on is the result."""
    text = b"".join(chunks).decode()
    if (begin := text.rfind("{")) < 0:
        raise ValueError("no result")
    return [], json.loads(text[begin:])


def ai_dev_gallery(chunks):
    """By lines, without the first; the result as Python's."""
    first, *others = lines_of(chunks)
    assert not first.startswith("{")
    return python_sdk([("\n".join(others)).encode()])


PARSERS = (python_sdk, javascript_sdk, csharp_sdk, csharp_sdk_at_once, ai_dev_gallery)
