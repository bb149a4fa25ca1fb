"""Changes values in the settings file and preserves its other content, including comments."""

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
    """Set `key` in `[section]` to a string; see `write_settings`."""
    return write_settings(path, {f"{section}.{key}": value})


def write_settings(path: Path, changes: Mapping[str, Value]) -> Path:
    """Set "section.key" settings. The file is created if needed and replaced atomically.

    Raises:
        SettingsError: The file cannot be read or written, or its syntax is too unusual to be edited automatically.
    """
    name = next(iter(changes))
    try:
        text = path.read_text("utf-8") if path.exists() else ""
        for name, value in changes.items():
            text = _set_value(text, name, value)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(path.name + ".new")
        temporary.write_text(text, "utf-8")
        if path.exists():
            temporary.chmod(path.stat().st_mode)  # it may contain API keys
        temporary.replace(path.resolve())
    except (OSError, ValueError) as error:
        raise SettingsError(key=name, source=str(path), problem=str(error)) from error
    return path


def _set_value(text: str, name: str, value: Value) -> str:
    """Return the text of the file with one value changed, and verify it by parsing it."""
    section, _, key = name.partition(".")
    written = _quote(value) if isinstance(value, str) else repr(value)
    changed = _set_line(text, section, key, f"{key} = {written}")
    if tomllib.loads(changed) != _with_value(tomllib.loads(text), section, key, value):
        raise ValueError(f"cannot edit the table [{section}] automatically; set {key} by hand")
    return changed


def _set_line(text: str, section: str, key: str, line: str) -> str:
    """Replace the line of the key, or add it to its table, or add the table."""
    lines = text.removesuffix("\n").split("\n") if text else []
    header = re.compile(rf"\s*\[\s*{section}\s*\]\s*(#.*)?")
    start = next((number for number, text_line in enumerate(lines) if header.fullmatch(text_line)), None)
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


def _quote(value: str) -> str:
    """Quote a string for TOML: as in JSON, except that TOML also requires DEL (U+007F) to be escaped."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _with_value(tables: dict[str, Any], section: str, key: str, value: Value) -> dict[str, Any]:
    inner = tables.get(section, {})
    return {**tables, section: {**inner, key: value}}
