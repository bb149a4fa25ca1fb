"""Reads the settings from the file, the environment and the command line."""

import contextlib
import difflib
import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import platformdirs
from msgspec import Struct, structs

from cupola.errors import SettingsError
from cupola.settings.settings import Settings

CONFIG_VARIABLE = "CUPOLA_CONFIG"


def default_path() -> Path:
    """Return the settings file of this platform, used when neither an argument nor `CUPOLA_CONFIG` names one."""
    return Path(platformdirs.user_config_dir("cupola", appauthor=False)) / "config.toml"


def file_path(path: Path | None = None, *, environ: Mapping[str, str] = os.environ) -> Path:
    """Return the settings file to read: the given one, the one in `CUPOLA_CONFIG`, or the platform's default."""
    return path or (Path(environ[CONFIG_VARIABLE]) if CONFIG_VARIABLE in environ else default_path())


def load_settings(
    overrides: Iterable[str] = (),
    *,
    environ: Mapping[str, str] = os.environ,
    path: Path | None = None,
) -> Settings:
    """Load the settings from the file, the environment and `overrides`; later ones take precedence.

    Args:
        overrides: "section.key=value" strings from command-line flags.
        environ: The source of `CUPOLA_*` variables.
        path: The settings file. None means the file in `CUPOLA_CONFIG`, which must exist, or else the platform's
            default, which need not.

    Raises:
        SettingsError: A setting is unknown or invalid, with its key and where it was set; or the file is unreadable.
    """
    file = file_path(path, environ=environ)
    tables = _read_file(file, must_exist=path is not None or CONFIG_VARIABLE in environ)
    _check(tables, source=str(file))
    for name, value in sorted(environ.items()):
        if name.startswith("CUPOLA_") and name != CONFIG_VARIABLE:
            tables = _with_override(tables, _key_of(name), value, source=f"the environment variable {name}")
    for override in overrides:
        key, equals, value = override.partition("=")
        if not equals:
            raise SettingsError(key=key, source="--set", problem="expected section.key=value")
        tables = _with_override(tables, key.strip(), value.strip(), source="--set")
    return msgspec.convert(tables, Settings)


def _key_of(variable: str) -> str:
    """Return the key that a variable sets: section.key for CUPOLA_SECTION_KEY, providers.name.key likewise."""
    words = variable.removeprefix("CUPOLA_").lower()
    return words.replace("_", ".", 2 if words.startswith(("providers_", "external_")) else 1)


def _read_file(path: Path, *, must_exist: bool) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        if must_exist:
            raise SettingsError(key="", source=str(path), problem="the file does not exist") from None
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(key="", source=str(path), problem=str(error)) from error


def _with_override(tables: dict[str, Any], key: str, text: str, *, source: str) -> dict[str, Any]:
    """Return the tables with one value set: parsed as TOML if that is valid, else as a string, else as a list."""
    candidates: list[Any] = [text, [item.strip() for item in text.split(",") if item.strip()]]
    with contextlib.suppress(tomllib.TOMLDecodeError):
        candidates.insert(0, tomllib.loads(f"value = {text}")["value"])
    problems = []
    for value in candidates:
        changed = _with_value(tables, key.split("."), value)
        try:
            _check(changed, source=source, key=key)
        except SettingsError as error:
            problems.append(error)
        else:
            return changed
    raise problems[0]


def _with_value(tables: dict[str, Any], path: list[str], value: object) -> dict[str, Any]:
    if len(path) == 1:
        return {**tables, path[0]: value}
    inner = tables.get(path[0], {})
    return {**tables, path[0]: _with_value(inner if isinstance(inner, dict) else {}, path[1:], value)}


def _check(tables: dict[str, Any], *, source: str, key: str = "") -> None:
    try:
        msgspec.convert(tables, Settings)
    except msgspec.ValidationError as error:
        text = str(error)
        problem, _, where = text.partition(" - at `$.")
        unknown = re.search(r"unknown field `(\w+)`", problem)
        parts = [part for part in (where.rstrip("`"), unknown.group(1) if unknown else "") if part]
        key = ".".join(parts) or key
        problem = f"unknown setting{_suggestion(key)}" if unknown else problem[0].lower() + problem[1:]
        raise SettingsError(key=key, source=source, problem=problem) from None


def _suggestion(key: str) -> str:
    """Return "; did you mean 'server.port'?", or "" if no setting resembles the key."""
    names = []
    for section in structs.fields(Settings):
        names.append(section.name)
        if isinstance(section.type, type) and issubclass(section.type, Struct):
            names += [f"{section.name}.{field.name}" for field in structs.fields(section.type)]
    found = difflib.get_close_matches(key, names, n=1, cutoff=0.75)
    return f"; did you mean {found[0]!r}?" if found else ""
