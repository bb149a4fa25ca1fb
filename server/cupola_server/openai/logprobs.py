"""Log probabilities, in OpenAI's shape."""

from collections.abc import Iterable

from cupola.frontend import TokenLogprob
from cupola_server.openai.schema.completion import ChoiceLogprobs, ContentLogprob, TopLogprob

_IMPOSSIBLE = -9999.0
"""What OpenAI writes for tokens that are next to impossible: JSON has no infinity."""


def choice_logprobs(tokens: Iterable[TokenLogprob]) -> ChoiceLogprobs:
    """Describe the tokens behind a piece of content."""
    return ChoiceLogprobs([content_logprob(token) for token in tokens])


def content_logprob(token: TokenLogprob) -> ContentLogprob:
    """Describe one token."""
    top = [TopLogprob(_text(data), _finite(logprob), list(data)) for data, logprob in token.top]
    return ContentLogprob(_text(token.token), _finite(token.logprob), list(token.token), top)


def _text(data: bytes) -> str:
    return data.decode(errors="replace")


def _finite(logprob: float) -> float:
    return max(logprob, _IMPOSSIBLE)
