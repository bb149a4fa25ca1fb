"""POST /tokenize and POST /detokenize."""

import msgspec

from cupola.frontend import ChatPrompt, EngineView, TextPrompt
from cupola_server.openai.answers import ChatTurns
from cupola_server.openai.conversation import unsupported
from cupola_server.openai.decoding import BodyDecoder
from cupola_server.openai.errors import FieldError
from cupola_server.openai.exchange import Exchange
from cupola_server.openai.schema import ChatRequest
from cupola_server.openai.schema.tokenize import DetokenizeReply, DetokenizeRequest, TokenizeReply, TokenizeRequest
from cupola_server.openai.translate import to_chat_ask

# Field: the only value that can be honoured, and why.
_FIXED = {
    "add_special_tokens": (True, "the tokens are those that the model would get"),
    "continue_final_message": (False, "the last message of a chat is never continued"),
    "return_token_strs": (False, "POST /detokenize tells the text of tokens"),
}


class TokenCounting:
    """Turns prompts into tokens and back, as the model's own tokenizer does."""

    def __init__(self, engine: EngineView) -> None:
        self._engine = engine
        self._turns = ChatTurns(engine)
        self._tokenize = BodyDecoder(TokenizeRequest)
        self._detokenize = BodyDecoder(DetokenizeRequest)

    async def tokenize(self, exchange: Exchange) -> None:
        """Tell the tokens of a prompt."""
        request = self._tokenize.decode(await exchange.json_body())
        _check(request)
        tokens = await self._engine.tokenize(request.model, await self._prompt(request))
        context_length = (await self._engine.load(request.model)).report.context_length
        reply = TokenizeReply(tokens=tuple(tokens), count=len(tokens), max_model_len=context_length)
        await exchange.reply(200, msgspec.json.encode(reply))

    async def detokenize(self, exchange: Exchange) -> None:
        """Tell the text of tokens."""
        request = self._detokenize.decode(await exchange.json_body())
        text = await self._engine.detokenize(request.model, request.tokens)
        await exchange.reply(200, msgspec.json.encode(DetokenizeReply(prompt=text)))

    async def _prompt(self, request: TokenizeRequest) -> ChatPrompt | TextPrompt:
        if request.messages is None:
            return TextPrompt(request.prompt or "")
        chat = ChatRequest(
            model=request.model,
            messages=request.messages,
            tools=request.tools,
            chat_template_kwargs=request.chat_template_kwargs,
        )
        prompt = (await self._turns.prepare(to_chat_ask(chat))).request.prompt
        assert isinstance(prompt, ChatPrompt)
        if request.add_generation_prompt is not False:
            return prompt
        options = {**prompt.template_options, "add_generation_prompt": False}
        return msgspec.structs.replace(prompt, template_options=options)


def _check(request: TokenizeRequest) -> None:
    for name, (possible, reason) in _FIXED.items():
        if getattr(request, name) not in (None, possible):
            raise unsupported(name, reason)
    if (request.prompt is None) == (request.messages is None):
        detail = "Send either 'prompt', a text, or 'messages', a chat."
        raise FieldError(param="prompt", code="invalid_value", detail=detail)
    for name in ("tools", "chat_template_kwargs", "add_generation_prompt"):
        if request.messages is None and getattr(request, name):
            detail = f"'{name}' can only be used together with 'messages'."
            raise FieldError(param=name, code="invalid_value", detail=detail)
