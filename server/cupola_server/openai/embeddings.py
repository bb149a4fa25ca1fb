"""POST /v1/embeddings."""

import binascii
import struct
from collections.abc import Sequence

import msgspec

from cupola.errors import InvalidParameterError
from cupola.frontend import EmbedRequest, EngineView
from cupola_server.openai.decoding import BodyDecoder
from cupola_server.openai.exchange import Exchange
from cupola_server.openai.prompts import Prompts, sorted_out
from cupola_server.openai.schema.embeddings import Embedding, EmbeddingsReply, EmbeddingsRequest, EmbeddingsUsage

_MOST_INPUTS = 2048
_AT_ONCE = 64  # between two such groups others get their turn, and a client that left is noticed


class EmbeddingVectors:
    """Turns texts into vectors."""

    def __init__(self, engine: EngineView) -> None:
        self._engine = engine
        self._decoder = BodyDecoder(EmbeddingsRequest)

    async def create(self, exchange: Exchange) -> None:
        """Answer one request."""
        request = self._decoder.decode(await exchange.json_body())
        inputs = sorted_out(request.input, "input", most=_MOST_INPUTS)
        model = (await self._engine.load(request.model, ttl_s=request.ttl)).info.id
        vectors: list[bytes] = []
        tokens = 0
        for first in range(0, len(inputs.items), _AT_ONCE):
            ask = EmbedRequest(model, inputs.items[first : first + _AT_ONCE], request.dimensions, request.ttl)
            try:
                done = await self._engine.embed(ask)
            except InvalidParameterError as error:
                raise _renumbered(error, inputs, first) from None
            vectors += done.vectors
            tokens += done.prompt_tokens
        await exchange.reply(200, _reply(model, vectors, tokens, as_base64=request.encoding_format == "base64"))


def _renumbered(error: InvalidParameterError, inputs: Prompts, first: int) -> InvalidParameterError:
    """Name the input as the client counts it, and not as the worker does, which gets a group at a time."""
    number = error.param.removeprefix("input[").removesuffix("]")
    if not number.isdigit():
        return error
    return InvalidParameterError(param=inputs.where(first + int(number)), detail=error.detail)


def _reply(model: str, vectors: Sequence[bytes], tokens: int, *, as_base64: bool) -> bytes:
    made = (_as_text(vector) if as_base64 else _as_numbers(vector) for vector in vectors)
    data = tuple(Embedding(index=index, embedding=one) for index, one in enumerate(made))
    usage = EmbeddingsUsage(prompt_tokens=tokens, total_tokens=tokens)
    return msgspec.json.encode(EmbeddingsReply(data=data, model=model, usage=usage))


def _as_text(vector: bytes) -> str:
    return binascii.b2a_base64(vector, newline=False).decode("ascii")


def _as_numbers(vector: bytes) -> tuple[float, ...]:
    return struct.unpack(f"<{len(vector) // 4}f", vector)
