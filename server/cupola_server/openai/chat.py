"""POST /v1/chat/completions."""

from cupola import EngineView, Generation, TurnFinished, WorkerError
from cupola_server.openai.decoding import BodyDecoder
from cupola_server.openai.exchange import Exchange
from cupola_server.openai.replies import ChunkEncoder, completion
from cupola_server.openai.schema import ChatRequest
from cupola_server.openai.translate import to_generate_request

_BROKEN_OFF = "The answer broke off without saying why."


class ChatCompletions:
    """Answers chats. A turn of the engine lasts exactly as long as its context here, however the request ends."""

    def __init__(self, engine: EngineView) -> None:
        self._engine = engine
        self._decoder = BodyDecoder(ChatRequest)

    async def create(self, exchange: Exchange) -> None:
        """Answer one, streaming or not."""
        request = self._decoder.decode(await exchange.json_body())
        turn = to_generate_request(request)
        if request.stream:
            include_usage = bool(request.stream_options and request.stream_options.include_usage)
            async with self._engine.generate(turn) as generation:
                chunks = ChunkEncoder(generation.model.id, include_usage=include_usage)
                await exchange.start_events(chunks.opening())
                finished = await _streamed(generation, exchange, chunks)
            await exchange.end_events(chunks.closing(finished))
        else:
            async with self._engine.generate(turn) as generation:
                text, finished = await _whole(generation)
            await exchange.reply(200, completion(generation.model.id, text, finished))


async def _streamed(generation: Generation, exchange: Exchange, chunks: ChunkEncoder) -> TurnFinished:
    """Send the text as it comes. While the client does not read, the engine merges what waits for it."""
    async for event in generation:
        if isinstance(event, TurnFinished):
            return event
        if event.text:
            await exchange.send_events(chunks.text(event.text))
    raise WorkerError(detail=_BROKEN_OFF)


async def _whole(generation: Generation) -> tuple[str, TurnFinished]:
    pieces: list[str] = []
    async for event in generation:
        if isinstance(event, TurnFinished):
            return "".join(pieces), event
        pieces.append(event.text)
    raise WorkerError(detail=_BROKEN_OFF)
