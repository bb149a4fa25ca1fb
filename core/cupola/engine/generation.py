"""A running turn as front-ends see it, of a worker or of an external service."""

from collections.abc import AsyncIterator, Awaitable, Callable

import anyio

from cupola.contracts import ModelInfo, TurnEnded
from cupola.errors import CupolaError, WorkerError
from cupola.messages import SessionReport, TurnCall, TurnFinished, TurnReasoning, TurnText, Usage


class RunningTurn:
    """The engine's implementation of `Generation`.

    Args:
        model: The variant that runs the turn.
        report: The session that runs it.
        get: Waits for the next event.
        prompt_tokens: Length of the rendered prompt in tokens; 0 if only an external service knows it.
    """

    def __init__(
        self, model: ModelInfo, report: SessionReport, get: Callable[[], Awaitable[object]], prompt_tokens: int = 0
    ) -> None:
        self.model = model
        self.report = report
        self.prompt_tokens = prompt_tokens
        self.first_token_at: float | None = None
        self.finished: TurnFinished | None = None
        self.failed = False
        self.tokens = 0
        self._get = get

    async def __aiter__(self) -> AsyncIterator[TurnText | TurnReasoning | TurnCall | TurnFinished]:
        """Iterate over the events of the answer; the last one is `TurnFinished`."""
        while self.finished is None:
            try:
                event = await self._get()
            except CupolaError:
                self.failed = True
                raise
            if isinstance(event, TurnFinished):
                self.finished = event
            elif not isinstance(event, TurnText | TurnReasoning | TurnCall):
                raise WorkerError(detail=f"The worker sent an unexpected {type(event).__name__} during an answer.")
            else:
                self.tokens += event.tokens if isinstance(event, TurnText) else 1
                if self.first_token_at is None:
                    self.first_token_at = anyio.current_time()
            yield event

    def ended(self, arrived: float) -> TurnEnded:
        """Return the event for observers, after the turn ended. `arrived` is the request's time on the loop's clock."""
        first = self.first_token_at
        return TurnEnded(
            model=self.model.id,
            provider=self.report.provider,
            reason=self.finished.reason if self.finished else None if self.failed else "cancelled",
            usage=self.finished.usage if self.finished else Usage(self.prompt_tokens, self.tokens),
            first_token_s=None if first is None else first - arrived,
            total_s=anyio.current_time() - arrived,
        )
