"""Failures inside task groups, made plain."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from cupola.errors import CupolaError
from cupola_server.cli.failures import cause


@contextmanager
def plain_errors() -> Iterator[None]:
    """Raise what a task group wrapped, if the block raises a group: the error that says most."""
    try:
        yield
    except BaseExceptionGroup as group:
        raise cause(group) from group


@dataclass(eq=False, kw_only=True)
class PeerError(CupolaError):
    """What is measured gave no answer that could be used."""

    name: str
    detail: str

    def __str__(self) -> str:
        return f"{self.name} cannot be measured: {self.detail}"


@dataclass(eq=False, kw_only=True)
class UnknownPeerError(CupolaError):
    """A peer was named that there is no adapter for."""

    name: str
    known: tuple[str, ...]

    def __str__(self) -> str:
        rest = (
            "The adapters are in the folder benchmarks/peers of Cupola's source, which is not here: run the command "
            "in a checkout, or give the path of an adapter, or a base URL."
        )
        if self.known:
            rest = f"There are: {', '.join(self.known)}. A base URL or the path of an adapter is a peer as well."
        return f"No peer is called {self.name!r}. {rest}"


@dataclass(eq=False, kw_only=True)
class PromptTooShortError(CupolaError):
    """A length was wished for that the model's template alone exceeds."""

    wished: int
    least: int

    def __str__(self) -> str:
        return (
            f"No prompt can have {self.wished} tokens: the model's chat template and the question take {self.least}. "
            f"Ask for more with --prompt-tokens."
        )


@dataclass(eq=False, kw_only=True)
class NothingMeasuredError(CupolaError):
    """Nothing of what was to be compared could be measured."""

    reasons: tuple[str, ...]

    def __str__(self) -> str:
        return f"Nothing could be measured. {' '.join(dict.fromkeys(self.reasons))}"


@dataclass(eq=False, kw_only=True)
class ResultFileError(CupolaError):
    """A result file cannot be used."""

    path: str
    detail: str

    def __str__(self) -> str:
        return f"The result file {self.path} {self.detail}."
