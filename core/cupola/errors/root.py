"""The base class of all errors, and their encoding between processes."""

import dataclasses
from dataclasses import dataclass
from typing import ClassVar

from msgspec import Struct


class WireError(Struct, frozen=True, tag="error"):
    """An encoded error: its class name and its fields."""

    kind: str
    fields: dict[str, str | int | float | None]


@dataclass(eq=False, kw_only=True)
class CupolaError(Exception):
    """The base class of every error that Cupola raises on purpose."""

    _kinds: ClassVar[dict[str, type["CupolaError"]]] = {}

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        CupolaError._kinds[cls.__name__] = cls

    def __str__(self) -> str:
        return str(getattr(self, "detail", ""))

    def __reduce__(self) -> tuple[object, ...]:
        return (from_wire, (to_wire(self),))


def to_wire(error: CupolaError) -> WireError:
    """Encode an error for another process."""
    return WireError(type(error).__name__, dataclasses.asdict(error))


def from_wire(wire: WireError) -> CupolaError:
    """Decode an error. A class unknown to this process becomes a `WorkerError` with the same text."""
    kind = CupolaError._kinds.get(wire.kind)
    if kind is None:
        kind = CupolaError._kinds["WorkerError"]
        return kind(detail=f"{wire.kind}: {wire.fields.get('detail') or wire.fields}")  # type: ignore[call-arg]
    return kind(**wire.fields)
