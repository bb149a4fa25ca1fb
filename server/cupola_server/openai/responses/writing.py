"""Writing a response: from a running turn to the response with its output."""

from collections.abc import Awaitable, Callable

from cupola.errors import WorkerError
from cupola.frontend import EngineView, TextPrompt
from cupola_server.openai.responses.events import Event
from cupola_server.openai.responses.items import OutputItem, Reasoning
from cupola_server.openai.responses.output import Output
from cupola_server.openai.responses.response import Response
from cupola_server.openai.responses.shown import ended
from cupola_server.openai.stream import AnswerStream
from cupola_server.openai.stream_events import Finished

Tell = Callable[[list[Event]], Awaitable[None]]


async def write(
    answer: AnswerStream, response: Response, output: Output, *, tell: Tell, engine: EngineView
) -> Response:
    """Write a response to its end.

    Args:
        answer: The turn.
        response: The response, begun.
        output: Takes what is written.
        tell: Gets the events of every piece, as it comes.
        engine: Counts the tokens of thoughts.

    Returns:
        The response, completed or incomplete.

    Raises:
        WorkerError: The answer broke off. What was written is in `output`.
    """
    async for piece in answer:
        if isinstance(piece, Finished):
            await tell(output.finish("incomplete" if piece.reason in ("length", "content_filter") else "completed"))
            # a model elsewhere does not tell its tokens apart
            tokens = 0 if answer.is_external else await _reasoning_tokens(output.items, answer.model.id, engine)
            return ended(response, output.items, piece, reasoning_tokens=tokens)
        if events := output.take(piece):
            await tell(events)
    raise WorkerError(detail="The answer broke off without saying why.")


async def _reasoning_tokens(items: list[OutputItem], model: str, engine: EngineView) -> int:
    """Count the tokens of what was thought, as text; markers count as answer."""
    texts = [part.text for item in items if isinstance(item, Reasoning) for part in item.content]
    return sum([len(await engine.tokenize(model, TextPrompt(text))) for text in texts])
