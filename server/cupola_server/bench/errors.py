"""Errors of `cupola bench`. All of them are `CupolaError`s, so the command line shows them as one sentence."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from cupola.errors import CupolaError
from cupola_server.cli.errors import root_cause


@dataclass(eq=False, kw_only=True)
class TargetError(CupolaError):
    """A target failed to start, or sent a response that cannot be used."""

    name: str
    detail: str

    def __str__(self) -> str:
        return f"{self.name} cannot be measured: {self.detail}"


@dataclass(eq=False, kw_only=True)
class UnknownPeerError(CupolaError):
    """There is no adapter for the peer."""

    name: str
    known: tuple[str, ...]

    def __str__(self) -> str:
        if self.known:
            rest = f"Available: {', '.join(self.known)}. A base URL or the path of an adapter works as well."
        else:
            rest = (
                "No adapters were found; they are in the folder benchmarks/peers of Cupola's source. Run the command "
                "in a checkout, or pass a base URL or the path of an adapter."
            )
        return f"Unknown peer {self.name!r}. {rest}"


@dataclass(eq=False, kw_only=True)
class PromptTooShortError(CupolaError):
    """The requested prompt length is below what the chat template alone takes."""

    requested_tokens: int
    minimum_tokens: int

    def __str__(self) -> str:
        return (
            f"A prompt of {self.requested_tokens} tokens is too short: the model's chat template and the fixed text "
            f"take {self.minimum_tokens} tokens. Use a larger --prompt-tokens."
        )


@dataclass(eq=False, kw_only=True)
class NothingMeasuredError(CupolaError):
    """No target could be measured."""

    reasons: tuple[str, ...]

    def __str__(self) -> str:
        return f"Nothing could be measured. {' '.join(dict.fromkeys(self.reasons))}"


@dataclass(eq=False, kw_only=True)
class ResultFileError(CupolaError):
    """A result file cannot be read, written or extended."""

    path: str
    detail: str

    def __str__(self) -> str:
        return f"The result file {self.path} {self.detail}."


@contextmanager
def unwrap_groups() -> Iterator[None]:
    """Raise the most informative error of an exception group in place of the group that a task group raised."""
    try:
        yield
    except BaseExceptionGroup as group:
        raise root_cause(group) from group
