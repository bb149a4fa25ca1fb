"""Changes values of the settings file and leaves everything else in it as its owner wrote it."""

import json
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

from cupola.errors import SettingsError

Value: TypeAlias = str | int | float

_TABLE = re.compile(r"\s*\[")


def write_setting(path: Path, section: str, key: str, value: str) -> Path:
    """Set `key` of `[section]` to a text; see `write_settings`."""
    return write_settings(path, {f"{section}.{key}": value})


def write_settings(path: Path, changes: Mapping[str, Value]) -> Path:
    """Set "section.key" settings. The file is made if need be, and replaced in one step.

    Raises:
        SettingsError: The file cannot be read or written, or is written in a way that only its owner can change.
    """
    name = next(iter(changes))
    try:
        text = path.read_text("utf-8") if path.exists() else ""
        for name, value in changes.items():
            text = _changed(text, name, value)
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(path.name + ".new")
        unfinished.write_text(text, "utf-8")
        if path.exists():
            unfinished.chmod(path.stat().st_mode)  # it may hold keys that nobody else shall read
        unfinished.replace(path.resolve())
    except (OSError, ValueError) as error:
        raise SettingsError(key=name, source=str(path), problem=str(error)) from error
    return path


def _changed(text: str, name: str, value: Value) -> str:
    """Return the text of the file with one value set; what came of it is read again to be sure."""
    section, _, key = name.partition(".")
    written = _quoted(value) if isinstance(value, str) else repr(value)
    changed = _with_line(text, section, key, f"{key} = {written}")
    if tomllib.loads(changed) != _with_value(tomllib.loads(text), section, key, value):
        raise ValueError(f"set {key} in [{section}] by hand; the table is written in a way not understood here")
    return changed


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


def _with_value(tables: dict[str, Any], section: str, key: str, value: Value) -> dict[str, Any]:
    inner = tables.get(section, {})
    return {**tables, section: {**inner, key: value}}
