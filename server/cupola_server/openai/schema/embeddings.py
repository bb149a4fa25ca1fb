"""The request and response of POST /v1/embeddings."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from cupola_server.openai.schema.fields import Text, TokenId


class EmbeddingsRequest(Struct, kw_only=True, forbid_unknown_fields=True):
    """The body of POST /v1/embeddings: every field that OpenAI documents, and `ttl`.

    Attributes:
        input: A text, up to 2048 texts, a list of tokens, or up to 2048 lists of tokens. None may be empty or exceed
            the model's context length; nothing is truncated. Token ids are those of the model, as returned by POST
            /tokenize, and not those of tiktoken.
        model: The id, the id without version, or the alias of an embedding model.
        encoding_format: "float", or "base64" for the bytes of the vector as little-endian 32 bit floats.
        dimensions: Truncate every vector to this length and normalize it again. Models that were not trained for this
            (Matryoshka) lose accuracy.
        user: Accepted without effect.
        ttl: Idle seconds before the model may be unloaded, 0 for never.
    """

    input: str | list[str | TokenId | list[TokenId]]
    model: Text
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Meta(ge=1, le=2**31 - 1)] | None = None
    user: str | None = None
    ttl: Annotated[float, Meta(ge=0)] | None = None


class Embedding(Struct, kw_only=True):
    """The vector of one input with L2 norm 1, as numbers or as base64 of little-endian float32 values."""

    object: Literal["embedding"] = "embedding"
    index: int
    embedding: tuple[float, ...] | str


class EmbeddingsUsage(Struct, kw_only=True):
    """The token counts of all inputs, including special tokens."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingsReply(Struct, kw_only=True):
    """The response, in the order of the inputs."""

    object: Literal["list"] = "list"
    data: tuple[Embedding, ...]
    model: str
    usage: EmbeddingsUsage
