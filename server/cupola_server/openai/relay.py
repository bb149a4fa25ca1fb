"""Carries an answer's text from the engine to a client that may be slower."""

import anyio

from cupola import CupolaError, Generation, TurnFinished, WorkerError


class TextRelay:
    """Hands text over in order, joining whatever waits already, so that a busy service sends fewer, larger chunks.

    One task fills, another one takes. When `limit` pieces wait, filling pauses: a slow client slows its own turn and
    fills no memory.
    """

    def __init__(self, limit: int = 64) -> None:
        self._limit = limit
        self._pieces: list[str] = []
        self._ended = False
        self._error: CupolaError | None = None
        self._finished: TurnFinished | None = None
        self._filled = anyio.Event()
        self._emptied = anyio.Event()

    @property
    def finished(self) -> TurnFinished:
        """The turn's last event, once `take` has nothing more.

        Raises:
            WorkerError: The turn failed; or whatever else ended it.
        """
        if self._error is not None:
            raise self._error
        if self._finished is None:
            raise WorkerError(detail="The answer broke off without saying why.")
        return self._finished

    async def fill(self, generation: Generation) -> None:
        """Read the turn to its end. A `CupolaError` is kept for `finished`, so that the text before it gets through."""
        try:
            async for event in generation:
                if isinstance(event, TurnFinished):
                    self._finished = event
                elif event.text:
                    await self._add(event.text)
        except CupolaError as error:
            self._error = error
        self._ended = True
        self._filled.set()

    async def take(self) -> str:
        """Wait for text and return all there is; empty at the end of the turn."""
        while not self._pieces and not self._ended:
            self._filled = anyio.Event()
            await self._filled.wait()
        text = "".join(self._pieces)
        self._pieces.clear()
        self._emptied.set()
        return text

    async def _add(self, text: str) -> None:
        self._pieces.append(text)
        self._filled.set()
        if len(self._pieces) >= self._limit:
            self._emptied = anyio.Event()
            await self._emptied.wait()
