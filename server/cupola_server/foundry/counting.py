"""POST /v1/chat/completions/tokenizer/encode/count."""

import msgspec

from cupola.frontend import ChatPrompt, EngineView
from cupola_server.foundry.schema import TokenCount
from cupola_server.openai.answers import ChatTurns
from cupola_server.openai.decoding import BodyDecoder
from cupola_server.openai.exchange import Exchange
from cupola_server.openai.schema import ChatRequest
from cupola_server.openai.translate import to_chat_ask


class PromptCounting:
    """Counts the tokens of a chat as the model would get them: with its template, and what opens the answer."""

    def __init__(self, engine: EngineView) -> None:
        self._engine = engine
        self._turns = ChatTurns(engine)
        self._decoder = BodyDecoder(ChatRequest)

    async def count(self, exchange: Exchange) -> None:
        """Count those of one request for a chat completion; the model is loaded."""
        request = self._decoder.decode(await exchange.json_body())
        prompt = (await self._turns.prepare(to_chat_ask(request))).request.prompt
        assert isinstance(prompt, ChatPrompt)
        tokens = await self._engine.tokenize(request.model, prompt)
        await exchange.reply(200, msgspec.json.encode(TokenCount(token_count=len(tokens))))
