"""Errors about one request: what it asks for is invalid, or there is no room for it now."""

from dataclasses import dataclass

from cupola.errors.root import CupolaError


@dataclass(eq=False, kw_only=True)
class RequestError(CupolaError):
    """The request cannot be honoured as it stands."""

    detail: str


@dataclass(eq=False, kw_only=True)
class InvalidParameterError(RequestError):
    """One field of the request is out of range or cannot be honoured."""

    param: str


@dataclass(eq=False, kw_only=True)
class ContextLengthExceededError(RequestError):
    """Prompt and requested answer do not fit in the model's context. All three are in tokens."""

    detail: str = ""
    context_length: int
    prompt_tokens: int
    completion_tokens: int

    def __str__(self) -> str:
        return (
            f"This model's context holds {self.context_length} tokens; the request asks for "
            f"{self.prompt_tokens + self.completion_tokens} ({self.prompt_tokens} in the prompt, "
            f"{self.completion_tokens} in the answer). Shorten the prompt or lower max_tokens."
        )


@dataclass(eq=False, kw_only=True)
class QueueFullError(CupolaError):
    """Too many turns already wait for this model."""

    model: str
    limit: int
    retry_after_s: int = 1

    def __str__(self) -> str:
        return f"{self.model!r} already has {self.limit} requests waiting. Try again in {self.retry_after_s} s."


@dataclass(eq=False, kw_only=True)
class MemoryBudgetError(CupolaError):
    """The models in use leave no room for another one."""

    model: str
    needed_bytes: int
    budget_bytes: int
    holders: str

    def __str__(self) -> str:
        return (
            f"{self.model!r} needs {self.needed_bytes / 1e6:,.0f} MB, but of the budget of "
            f"{self.budget_bytes / 1e6:,.0f} MB too much is in use by {self.holders}. Try again when they are idle, "
            f"unpin one, or raise models.memory_budget_mb."
        )
