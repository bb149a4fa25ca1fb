"""Folder names for ids and publishers. They come from catalogs, so anything may be in them."""

import hashlib
import re

_MOST_CHARACTERS = 150
_UNSAFE = re.compile(r"[^A-Za-z0-9._+ -]|^[. ]|[. ]$")
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)  # device names on Windows


def model_folder_name(model_id: str) -> str:
    """Return "phi-4-generic-cpu-3" for "phi-4-generic-cpu:3", as Foundry Local does; no version counts as 0."""
    name, _, version = model_id.rpartition(":")
    return safe_name(f"{name}-{version}" if name and version.isdecimal() else f"{model_id}-0")


def publisher_folder_name(publisher: str) -> str:
    """Return the folder that the publisher's models share."""
    return safe_name(publisher or "unknown")


def safe_name(text: str) -> str:
    """Make a name that is one folder on every system, and different for different texts of ordinary length."""
    name = _UNSAFE.sub(_escaped, text)
    if _RESERVED.fullmatch(name):
        name = "%" + name
    if len(name) > _MOST_CHARACTERS:
        name = f"{name[:_MOST_CHARACTERS]}%{hashlib.sha256(text.encode()).hexdigest()[:12]}"
    return name


def _escaped(match: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in match[0].encode())
