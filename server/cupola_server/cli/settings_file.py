"""Changes one value of the settings file and leaves everything else in it as its owner wrote it."""

import json
import re
import tomllib
from pathlib import Path
from typing import Any

from cupola.errors import SettingsError

_TABLE = re.compile(r"\s*\[")


def write_setting(path: Path, section: str, key: str, value: str) -> Path:
    """Set `key` of `[section]` to a text. The file is made if need be, and replaced in one step.

    Raises:
        SettingsError: The file cannot be read or written, or is written in a way that only its owner can change.
    """
    try:
        text = path.read_text("utf-8") if path.exists() else ""
        before = tomllib.loads(text)
        changed = _with_line(text, section, key, f"{key} = {_quoted(value)}")
        if tomllib.loads(changed) != _with_value(before, section, key, value):
            raise ValueError(f"set {key} in [{section}] by hand; the table is written in a way not understood here")
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(path.name + ".new")
        unfinished.write_text(changed, "utf-8")
        unfinished.replace(path)
    except (OSError, ValueError) as error:
        raise SettingsError(key=f"{section}.{key}", source=str(path), problem=str(error)) from error
    return path


def _with_line(text: str, section: str, key: str, line: str) -> str:
    """Replace the line of the key, or add it to its table, or add the table."""
    lines = text.removesuffix("\n").split("\n") if text else []
    header = re.compile(rf"\s*\[\s*{section}\s*\]\s*(#.*)?")
    start = next((number for number, each in enumerate(lines) if header.fullmatch(each)), None)
    if start is None:
        return "\n".join([*lines, *([""] if lines else []), f"[{section}]", line, ""])
    end = next((number for number in range(start + 1, len(lines)) if _TABLE.match(lines[number])), len(lines))
    old = next((number for number in range(start + 1, end) if re.match(rf"\s*{key}\s*=", lines[number])), None)
    if old is None:
        lines.insert(start + 1, line)
    else:
        comment = re.search(r"\s+#[^\"']*$", lines[old])
        lines[old] = line + (comment[0] if comment else "")
    return "\n".join([*lines, ""])


def _quoted(value: str) -> str:
    """Write a text as TOML wants it: as JSON does, but for the one more character that must not stand for itself."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _with_value(tables: dict[str, Any], section: str, key: str, value: str) -> dict[str, Any]:
    inner = tables.get(section, {})
    return {**tables, section: {**inner, key: value}}
