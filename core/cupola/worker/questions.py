"""Questions that a worker answers at once: tokens of a text, text of tokens, vectors."""

import logging
import math
import sys
from array import array
from collections.abc import Sequence

from cupola.contracts import EmbeddingSession, Session, Tokenizer
from cupola.errors import CupolaError, InvalidParameterError, WireError, WorkerError, to_wire
from cupola.messages import ChatPrompt, Embeddings, TextPrompt
from cupola.protocol import Ask, DetokenizeTokens, EmbedTexts, Reply, Text, TokenizeText, Tokens

logger = logging.getLogger(__name__)


def answer(ask: Ask, session: Session | EmbeddingSession) -> Reply:
    """Answer a question; what goes wrong is the answer, too."""
    try:
        return Reply(ask.id, _answer(ask.question, session))
    except CupolaError as error:
        return Reply(ask.id, to_wire(error))
    except Exception as error:
        logger.exception("A question could not be answered")
        return Reply(ask.id, to_wire(WorkerError(detail=f"The model failed: {type(error).__name__}: {error}")))


def _answer(
    question: TokenizeText | DetokenizeTokens | EmbedTexts, session: Session | EmbeddingSession
) -> Tokens | Text | Embeddings | WireError:
    match question:
        case TokenizeText(prompt):
            return Tokens(tuple(_prompt_tokens(prompt, session.tokenizer)))
        case DetokenizeTokens(tokens):
            return Text(b"".join(map(session.tokenizer.token_bytes, tokens)).decode("utf-8", "replace"))
        case EmbedTexts() if isinstance(session, EmbeddingSession):
            return _embeddings(question, session)
        case _:
            raise InvalidParameterError(param="model", detail="This model makes no embeddings; it answers chats.")


def _prompt_tokens(prompt: ChatPrompt | TextPrompt, tokenizer: Tokenizer) -> list[int]:
    return tokenizer.render(prompt) if isinstance(prompt, ChatPrompt) else tokenizer.encode(prompt.text)


def _embeddings(question: EmbedTexts, session: EmbeddingSession) -> Embeddings:
    inputs = [_tokens(one, session.tokenizer) for one in question.inputs]
    for number, one in enumerate(inputs):
        if not one:
            raise InvalidParameterError(param=f"input[{number}]", detail="An input must not be empty.")
        if len(one) > session.context_length:
            detail = f"An input has {len(one)} tokens; this model takes {session.context_length}. Cut it into parts."
            raise InvalidParameterError(param=f"input[{number}]", detail=detail)
    wanted = question.dimensions or session.dimensions
    if wanted > session.dimensions:
        detail = f"This model's vectors have {session.dimensions} dimensions; {wanted} were asked for."
        raise InvalidParameterError(param="dimensions", detail=detail)
    vectors = tuple(_packed(vector[:wanted]) for vector in session.embed(inputs))
    return Embeddings(vectors, sum(map(len, inputs)))


def _tokens(one: str | tuple[int, ...], tokenizer: Tokenizer) -> Sequence[int]:
    return tokenizer.encode(one) if isinstance(one, str) else one


def _packed(vector: Sequence[float]) -> bytes:
    """Normalise a vector that may have been cut, and pack it as little-endian float32."""
    length = math.sqrt(math.fsum(value * value for value in vector)) or 1.0
    packed = array("f", [value / length for value in vector])
    if sys.byteorder == "big":
        packed.byteswap()
    return packed.tobytes()
