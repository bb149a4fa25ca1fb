"""What an answer took."""

from msgspec import Struct


class PromptTokensDetails(Struct):
    """How many tokens of the prompt were in the KV cache already."""

    cached_tokens: int


class CompletionUsage(Struct, kw_only=True):
    """Token counts of one answer."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails
