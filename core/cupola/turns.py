"""A running turn as a front-end sees it, whatever answers it. The engine is the only caller."""

from collections.abc import AsyncIterator

import anyio

from cupola.contracts import ModelInfo, TurnEnded
from cupola.errors import CupolaError, WorkerError
from cupola.messages import SessionReport, TurnFinished, TurnText, Usage
from cupola.worker.process import WorkerTurn


class Turn:
    """A running turn, as a front-end sees it (`Generation`)."""

    def __init__(self, model: ModelInfo, report: SessionReport, turn: WorkerTurn) -> None:
        self.model = model
        self.report = report
        self.prompt_tokens = turn.prompt_tokens
        self.first_token_at: float | None = None
        self.finished: TurnFinished | None = None
        self.failed = False
        self.tokens = 0
        self._turn = turn

    async def __aiter__(self) -> AsyncIterator[TurnText | TurnFinished]:
        """Iterate over the events of the answer; the last one is `TurnFinished`."""
        while self.finished is None:
            try:
                event = await self._turn.mailbox.get()
            except CupolaError:
                self.failed = True
                raise
            if isinstance(event, TurnFinished):
                self.finished = event
            elif not isinstance(event, TurnText):
                raise WorkerError(detail=f"The worker sent a {type(event).__name__} in mid-answer.")
            else:
                self.tokens += event.tokens
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
