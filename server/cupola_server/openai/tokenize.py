"""POST /tokenize and POST /detokenize."""

import msgspec

from cupola.frontend import ChatPrompt, EngineView, TextPrompt
from cupola_server.openai.chat import to_chat_params
from cupola_server.openai.decoding import BodyDecoder
from cupola_server.openai.errors import FieldError, unsupported
from cupola_server.openai.exchange import Exchange
from cupola_server.openai.schema import ChatRequest
from cupola_server.openai.schema.tokenize import DetokenizeReply, DetokenizeRequest, TokenizeReply, TokenizeRequest
from cupola_server.openai.turns import ChatTurns

# Field: the only supported value, and why.
_FIXED = {
    "add_special_tokens": (True, "the result is what the model receives"),
    "continue_final_message": (False, "continuing the last message is not supported"),
    "return_token_strs": (False, "use POST /detokenize instead"),
}


class Tokenization:
    """Converts prompts to tokens and back with the model's tokenizer."""

    def __init__(self, engine: EngineView) -> None:
        self._engine = engine
        self._turns = ChatTurns(engine)
        self._tokenize = BodyDecoder(TokenizeRequest)
        self._detokenize = BodyDecoder(DetokenizeRequest)

    async def tokenize(self, exchange: Exchange) -> None:
        """Send the tokens of a prompt."""
        request = self._tokenize.decode(await exchange.json_body())
        _check(request)
        tokens = await self._engine.tokenize(request.model, await self._prompt(request))
        context_length = (await self._engine.load(request.model)).report.context_length
        reply = TokenizeReply(tokens=tuple(tokens), count=len(tokens), max_model_len=context_length)
        await exchange.reply(200, msgspec.json.encode(reply))

    async def detokenize(self, exchange: Exchange) -> None:
        """Send the text of tokens."""
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
        prompt = (await self._turns.prepare(to_chat_params(chat))).request.prompt
        assert isinstance(prompt, ChatPrompt)
        if request.add_generation_prompt is not False:
            return prompt
        options = {**prompt.template_options, "add_generation_prompt": False}
        return msgspec.structs.replace(prompt, template_options=options)


def _check(request: TokenizeRequest) -> None:
    for name, (supported, reason) in _FIXED.items():
        if getattr(request, name) not in (None, supported):
            raise unsupported(name, reason)
    if (request.prompt is None) == (request.messages is None):
        detail = "Send either 'prompt' or 'messages', but not both."
        raise FieldError(param="prompt", code="invalid_value", detail=detail)
    for name in ("tools", "chat_template_kwargs", "add_generation_prompt"):
        if request.messages is None and getattr(request, name):
            detail = f"'{name}' can only be used together with 'messages'."
            raise FieldError(param=name, code="invalid_value", detail=detail)
