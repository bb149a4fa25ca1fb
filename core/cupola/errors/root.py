"""The root of all errors, and how they travel between processes."""

import dataclasses
from dataclasses import dataclass
from typing import ClassVar

from msgspec import Struct


class WireError(Struct, frozen=True, tag="error"):
    """An error on its way between processes: the class name and its fields."""

    kind: str
    fields: dict[str, str | int | float | None]


@dataclass(eq=False, kw_only=True)
class CupolaError(Exception):
    """The root. Catch this to catch everything that Cupola explains."""

    _kinds: ClassVar[dict[str, type["CupolaError"]]] = {}

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        CupolaError._kinds[cls.__name__] = cls

    def __str__(self) -> str:
        return str(getattr(self, "detail", ""))

    def __reduce__(self) -> tuple[object, ...]:
        return (from_wire, (to_wire(self),))


def to_wire(error: CupolaError) -> WireError:
    """Describe an error so that another process can raise it again."""
    return WireError(type(error).__name__, dataclasses.asdict(error))


def from_wire(wire: WireError) -> CupolaError:
    """Rebuild an error; one that this process does not know becomes a `WorkerError` with the same text."""
    kind = CupolaError._kinds.get(wire.kind)
    if kind is None:
        kind = CupolaError._kinds["WorkerError"]
        return kind(detail=f"{wire.kind}: {wire.fields.get('detail') or wire.fields}")  # type: ignore[call-arg]
    return kind(**wire.fields)
