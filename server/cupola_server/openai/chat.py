"""POST /v1/chat/completions."""

from collections.abc import Sequence

from cupola.frontend import EngineView
from cupola_server.openai.answers import Answer, ChatTurns
from cupola_server.openai.choices import open_choices, receive
from cupola_server.openai.decoding import BodyDecoder
from cupola_server.openai.exchange import Exchange
from cupola_server.openai.gathering import gathered
from cupola_server.openai.pieces import Piece
from cupola_server.openai.replies import ChunkEncoder, completion
from cupola_server.openai.schema import ChatRequest
from cupola_server.openai.tools import TOOL_FORMATS, ToolFormat
from cupola_server.openai.translate import to_chat_ask


class ChatCompletions:
    """Answers chats. A turn of the engine lasts exactly as long as its context here, however the request ends.

    Args:
        engine: Whom to ask.
        tool_formats: The formats of tool calls that are known.
    """

    def __init__(self, engine: EngineView, tool_formats: Sequence[ToolFormat] = TOOL_FORMATS) -> None:
        self._turns = ChatTurns(engine, tool_formats)
        self._decoder = BodyDecoder(ChatRequest)

    async def create(self, exchange: Exchange) -> None:
        """Answer one, streaming or not."""
        request = self._decoder.decode(await exchange.json_body())
        prepared = await self._turns.prepare(to_chat_ask(request))
        count = request.n or 1
        if request.stream:
            include_usage = bool(request.stream_options and request.stream_options.include_usage)
            async with open_choices(self._turns, prepared, count) as answers:
                chunks = ChunkEncoder(answers[0].model.id, choices=count, include_usage=include_usage)
                await exchange.start_events(chunks.opening())
                ending = await _streamed(answers, exchange, chunks)
            await exchange.end_events(ending)
        else:
            async with open_choices(self._turns, prepared, count) as answers:
                choices, usage = await gathered(answers)
            await exchange.reply(200, completion(answers[0].model.id, choices, usage))


async def _streamed(answers: Sequence[Answer], exchange: Exchange, chunks: ChunkEncoder) -> bytes:
    """Send the pieces as they come. While the client does not read, the engine merges what waits for it."""

    async def send(index: int, piece: Piece) -> None:
        await exchange.send_events(chunks.piece(index, piece))

    return chunks.closing(await receive(answers, send))
