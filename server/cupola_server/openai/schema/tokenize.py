"""Bodies and replies of POST /tokenize and POST /detokenize, in vLLM's shapes."""

from msgspec import Struct

from cupola_server.openai.schema.fields import Text, TokenId


class TokenizeReply(Struct, kw_only=True):
    """The tokens of a prompt, how many there are, and how many fit in the model's context."""

    tokens: tuple[int, ...]
    count: int
    max_model_len: int


class DetokenizeRequest(Struct, kw_only=True, forbid_unknown_fields=True):
    """The body of POST /detokenize. A token that the model does not have is an error."""

    model: Text
    tokens: list[TokenId]


class DetokenizeReply(Struct, kw_only=True):
    """The text of tokens; special ones as they are written, U+FFFD for bytes that are no character."""

    prompt: str
