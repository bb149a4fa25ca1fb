"""Keys of bodies: clients of dialect A write them in three ways, so that their case does not count."""

from collections.abc import Mapping
from typing import Any


def lowered(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return a body with keys in lower case, and those of the objects in it; not of the objects in those."""
    return {key.lower(): _keys_lowered(value) for key, value in body.items()}


def _keys_lowered(value: object) -> object:
    return {str(key).lower(): each for key, each in value.items()} if isinstance(value, Mapping) else value
