"""Errors about one request: it is invalid, or cannot be accepted now."""

from dataclasses import dataclass

from cupola.errors.root import CupolaError


@dataclass(eq=False, kw_only=True)
class RequestError(CupolaError):
    """The request is invalid or not supported."""

    detail: str


@dataclass(eq=False, kw_only=True)
class InvalidParameterError(RequestError):
    """A field of the request, `param`, is invalid or not supported."""

    param: str


@dataclass(eq=False, kw_only=True)
class ContextLengthExceededError(RequestError):
    """The prompt and the requested answer exceed the context length. All lengths are in tokens."""

    detail: str = ""
    context_length: int
    prompt_tokens: int
    completion_tokens: int

    def __str__(self) -> str:
        return (
            f"This model's maximum context length is {self.context_length} tokens, but the request needs "
            f"{self.prompt_tokens + self.completion_tokens} ({self.prompt_tokens} in the prompt, "
            f"{self.completion_tokens} in the answer). Shorten the prompt or lower max_tokens."
        )


@dataclass(eq=False, kw_only=True)
class QueueFullError(CupolaError):
    """The queue of turns that wait for this model is full."""

    model: str
    limit: int
    retry_after_s: int = 1

    def __str__(self) -> str:
        return f"The queue of {self.model!r} is full ({self.limit} requests). Try again in {self.retry_after_s} s."


@dataclass(eq=False, kw_only=True)
class MemoryBudgetError(CupolaError):
    """Loaded models use the memory budget, and none of them can be unloaded."""

    model: str
    needed_bytes: int
    budget_bytes: int
    holders: str

    def __str__(self) -> str:
        return (
            f"{self.model!r} needs {self.needed_bytes / 1e6:,.0f} MB, but too much of the memory budget of "
            f"{self.budget_bytes / 1e6:,.0f} MB is used by {self.holders}. Try again when they are idle, "
            f"unpin one of them, or raise models.memory_budget_mb."
        )
