"""What to install for a provider on this machine."""

from collections.abc import Iterable, Sequence
from importlib import metadata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from packaging.requirements import Requirement

_OURS = ("jinja2", "llguidance", "msgspec", "numpy", "onnx", "platformdirs", "pluggy", "psutil")
"""What our core and providers packages import in a worker, beside the ONNX Runtime that a provider brings."""


def applying(requirements: Iterable[str]) -> tuple[str, ...]:
    """Return the requirements that apply to this machine, without their markers.

    Raises:
        ValueError: One is not a requirement as pip takes it.
    """
    parsed = [_parsed(text) for text in requirements]
    return tuple(_plain(each) for each in parsed if each.marker is None or each.marker.evaluate())


def worker_requirements() -> Sequence[str]:
    """Return what our own packages need in a worker, in the versions that Cupola declares."""
    from packaging.requirements import Requirement  # noqa: PLC0415 - takes 20 ms, which every start would pay

    try:
        declared = metadata.requires("cupola") or []
    except metadata.PackageNotFoundError:  # run from a bare source tree
        declared = []
    known = {each.name.lower(): each for each in map(Requirement, declared) if "extra" not in str(each.marker)}
    return [_plain(known[name]) if name in known else name for name in _OURS]


def _parsed(text: str) -> "Requirement":
    from packaging.requirements import InvalidRequirement, Requirement  # noqa: PLC0415

    try:
        return Requirement(text)
    except InvalidRequirement as error:
        raise ValueError(f"{text!r} is no requirement: {error}") from error


def _plain(requirement: "Requirement") -> str:
    requirement.marker = None
    return str(requirement)
