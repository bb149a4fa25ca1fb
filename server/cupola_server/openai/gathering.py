"""Putting the pieces of answers together again, for clients that do not stream."""

from collections.abc import Sequence

from msgspec import UNSET

from cupola.frontend import TokenLogprob, Usage
from cupola_server.openai.answers import Answer
from cupola_server.openai.choices import receive
from cupola_server.openai.logprobs import choice_logprobs
from cupola_server.openai.pieces import (
    ContentDelta,
    EndReason,
    Finished,
    Piece,
    ReasoningDelta,
    ToolArgumentsDelta,
    ToolCallStarted,
)
from cupola_server.openai.schema.completion import CompletionChoice, CompletionMessage
from cupola_server.openai.schema.tools import CalledFunction, MessageToolCall


async def gathered(answers: Sequence[Answer]) -> tuple[Sequence[CompletionChoice], Usage]:
    """Receive answers whole, and what they took."""
    drafts = [Draft() for _ in answers]

    async def note(index: int, piece: Piece) -> None:
        drafts[index].add(piece)

    usage = await receive(answers, note)
    return [draft.choice(index) for index, draft in enumerate(drafts)], usage


class Draft:
    """One answer, as far as it is known."""

    def __init__(self) -> None:
        self._content: list[str] = []
        self._reasoning: list[str] = []
        self._calls: list[tuple[ToolCallStarted, list[str]]] = []
        self._logprobs: list[TokenLogprob] | None = None
        self._reason: EndReason = "stop"

    def add(self, piece: Piece) -> None:
        """Add what comes next."""
        match piece:
            case ContentDelta():
                self._content.append(piece.text)
                if piece.logprobs:
                    self._logprobs = [*(self._logprobs or ()), *piece.logprobs]
            case ReasoningDelta():
                self._reasoning.append(piece.text)
            case ToolCallStarted():
                self._calls.append((piece, []))
            case ToolArgumentsDelta():
                self._calls[piece.index][1].append(piece.text)
            case Finished():
                self._reason = piece.reason

    def choice(self, index: int) -> CompletionChoice:
        """Return it as one of the reply's choices."""
        calls = [
            MessageToolCall(id=call.id, function=CalledFunction(call.name, "".join(arguments)))
            for call, arguments in self._calls
        ]
        message = CompletionMessage(
            content="".join(self._content) if self._content or not calls else None,
            reasoning_content="".join(self._reasoning) if self._reasoning else UNSET,
            tool_calls=calls or UNSET,
        )
        logprobs = None if self._logprobs is None else choice_logprobs(self._logprobs)
        return CompletionChoice(index=index, message=message, logprobs=logprobs, finish_reason=self._reason)
