"""A running turn as a front-end sees it, whatever answers it. The engine is the only caller."""

from collections.abc import AsyncIterator, Awaitable, Callable

import anyio

from cupola.contracts import ModelInfo, TurnEnded
from cupola.errors import CupolaError, WorkerError
from cupola.messages import SessionReport, TurnCall, TurnFinished, TurnReasoning, TurnText, Usage


class RunningTurn:
    """A running turn, as a front-end sees it (`Generation`).

    Args:
        model: What answers.
        report: What runs it.
        get: Waits for its next event.
        prompt_tokens: Length of the rendered prompt; 0 while only a service elsewhere knows it.
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
                raise WorkerError(detail=f"The worker sent a {type(event).__name__} in mid-answer.")
            else:
                self.tokens += event.tokens if isinstance(event, TurnText) else 1
                if self.first_token_at is None:
                    self.first_token_at = anyio.current_time()
            yield event

    def ended(self, arrived: float) -> TurnEnded:
        """Describe the turn for observers, once it is over. `arrived` is when it was asked for, on the loop's clock."""
        first = self.first_token_at
        return TurnEnded(
            model=self.model.id,
            provider=self.report.provider,
            reason=self.finished.reason if self.finished else None if self.failed else "cancelled",
            usage=self.finished.usage if self.finished else Usage(self.prompt_tokens, self.tokens),
            first_token_s=None if first is None else first - arrived,
            total_s=anyio.current_time() - arrived,
        )
