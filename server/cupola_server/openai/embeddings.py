"""POST /v1/embeddings."""

import binascii
import struct
from collections.abc import Sequence

import msgspec

from cupola.errors import InvalidParameterError
from cupola.frontend import EmbedRequest, EngineView
from cupola_server.openai.decoding import BodyDecoder
from cupola_server.openai.exchange import Exchange
from cupola_server.openai.prompts import Prompts, parse_prompts
from cupola_server.openai.schema.embeddings import Embedding, EmbeddingsReply, EmbeddingsRequest, EmbeddingsUsage

_MAX_INPUTS = 2048
_GROUP = 64  # inputs per engine request, so that others can run in between and a disconnect is noticed


class EmbeddingVectors:
    """Serves embedding vectors."""

    def __init__(self, engine: EngineView) -> None:
        self._engine = engine
        self._decoder = BodyDecoder(EmbeddingsRequest)

    async def create(self, exchange: Exchange) -> None:
        """Handle a request."""
        request = self._decoder.decode(await exchange.json_body())
        inputs = parse_prompts(request.input, "input", limit=_MAX_INPUTS)
        model = (await self._engine.load(request.model, ttl_s=request.ttl)).info.id
        vectors: list[bytes] = []
        tokens = 0
        for first in range(0, len(inputs.items), _GROUP):
            group = EmbedRequest(model, inputs.items[first : first + _GROUP], request.dimensions, request.ttl)
            try:
                embeddings = await self._engine.embed(group)
            except InvalidParameterError as error:
                raise _with_client_index(error, inputs, first) from None
            vectors += embeddings.vectors
            tokens += embeddings.prompt_tokens
        await exchange.reply(200, _encode(model, vectors, tokens, as_base64=request.encoding_format == "base64"))


def _with_client_index(error: InvalidParameterError, inputs: Prompts, first: int) -> InvalidParameterError:
    """Replace the index within a group, as the worker reports it, by the client's index."""
    index = error.param.removeprefix("input[").removesuffix("]")
    if not index.isdigit():
        return error
    return InvalidParameterError(param=inputs.param_of(first + int(index)), detail=error.detail)


def _encode(model: str, vectors: Sequence[bytes], tokens: int, *, as_base64: bool) -> bytes:
    encoded = (_to_base64(vector) if as_base64 else _to_floats(vector) for vector in vectors)
    data = tuple(Embedding(index=index, embedding=embedding) for index, embedding in enumerate(encoded))
    usage = EmbeddingsUsage(prompt_tokens=tokens, total_tokens=tokens)
    return msgspec.json.encode(EmbeddingsReply(data=data, model=model, usage=usage))


def _to_base64(vector: bytes) -> str:
    return binascii.b2a_base64(vector, newline=False).decode("ascii")


def _to_floats(vector: bytes) -> tuple[float, ...]:
    return struct.unpack(f"<{len(vector) // 4}f", vector)
