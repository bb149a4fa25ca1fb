"""The contract of what is measured."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field

from cupola_server.bench.answers import Answer, Prompt


@dataclass(frozen=True, slots=True)
class Started:
    """What a target told when it was ready.

    Attributes:
        load_s: How long it took from starting to being ready.
        roots: Its processes; those below them are its own as well. Empty where they cannot be seen.
        alone: Processes of its own without those below them.
        versions: Of the packages that make the difference.
        settings: What it runs with.
    """

    load_s: float
    roots: tuple[int, ...] = ()
    alone: tuple[int, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)


class Target(ABC):
    """One of those that are compared.

    Attributes:
        name: Unique in a run, the same in the next one.
        title: For tables and charts.
        model: The model's id or, where only the peer knows it, its name there.
        note: What a reader must know about it.
        streams_limit: Most answers at a time; None for no limit.
    """

    name: str
    title: str
    model: str
    note: str = ""
    streams_limit: int | None = None

    @abstractmethod
    def open(self) -> AbstractAsyncContextManager[Started]:
        """Start it and wait until it answers; leaving stops it.

        Raises:
            CupolaError: It cannot be measured here; the sentence says why.
        """

    @abstractmethod
    async def ask(self, prompt: Prompt, new_tokens: int) -> Answer:
        """Have one prompt answered greedily, with so many tokens if it can be told to.

        Raises:
            CupolaError: It failed.
        """
