"""The requests and responses of POST /tokenize and POST /detokenize, in vLLM's format."""

from typing import Annotated, Any

from msgspec import Meta, Struct

from cupola_server.openai.schema.fields import Text, TokenId
from cupola_server.openai.schema.messages import ChatMessage
from cupola_server.openai.schema.tools import ToolParam


class TokenizeRequest(Struct, kw_only=True, forbid_unknown_fields=True):
    """The body of POST /tokenize: a model, and either a text or the messages of a chat.

    Attributes:
        model: The id, the id without version, or the alias of a chat or embedding model, which is loaded.
        prompt: A text. Special tokens in it are plain text; the model's own special tokens around a text are added.
        messages: A chat, rendered with the model's template as for a chat completion.
        tools: The functions of the chat.
        chat_template_kwargs: Additional variables of the chat template.
        add_generation_prompt: Whether to add the start of an answer; true by default.
        add_special_tokens: Must be true, the default: the result is the prompt that the model receives.
        continue_final_message: Must be false.
        return_token_strs: Must be false; use POST /detokenize for the text of tokens.
    """

    model: Text
    prompt: str | None = None
    messages: Annotated[list[ChatMessage], Meta(min_length=1)] | None = None
    tools: Annotated[list[ToolParam], Meta(max_length=128)] | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    add_generation_prompt: bool | None = None
    add_special_tokens: bool | None = None
    continue_final_message: bool | None = None
    return_token_strs: bool | None = None


class TokenizeReply(Struct, kw_only=True):
    """The tokens of a prompt, their number, and the model's context length."""

    tokens: tuple[int, ...]
    count: int
    max_model_len: int


class DetokenizeRequest(Struct, kw_only=True, forbid_unknown_fields=True):
    """The body of POST /detokenize. Unknown token ids are an error."""

    model: Text
    tokens: list[TokenId]


class DetokenizeReply(Struct, kw_only=True):
    """The text of the tokens, including special tokens, with U+FFFD for bytes that are not valid UTF-8."""

    prompt: str
