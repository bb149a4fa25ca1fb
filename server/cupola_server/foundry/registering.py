"""POST /openai/register."""

from typing import Any

import msgspec

from cupola.frontend import EngineView
from cupola_server.foundry.lowering import lowered
from cupola_server.foundry.schema import RegisterRequest
from cupola_server.openai.decoding import BodyDecoder
from cupola_server.openai.exchange import Exchange

_EMPTY = ((b"content-type", b"text/plain"),)


class Registering:
    """Offers models of services elsewhere, until the service ends; those of the settings stay."""

    def __init__(self, engine: EngineView) -> None:
        self._engine = engine
        self._raw = BodyDecoder(dict[str, Any])
        self._decoder = BodyDecoder(RegisterRequest)

    async def register(self, exchange: Exchange) -> None:
        """Offer one model. No key comes this way: a service that needs one has to be in the settings."""
        body = lowered(self._raw.decode(await exchange.json_body()))
        request = self._decoder.decode(msgspec.json.encode(body))
        await self._engine.register(request.type_name, request.model_name, request.base_uri)
        await exchange.reply(200, b"", _EMPTY)
