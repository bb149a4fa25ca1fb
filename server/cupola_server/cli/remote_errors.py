"""What can come of asking the running service. Kept apart from `remote`, which imports httpx."""

from dataclasses import dataclass

from cupola.errors import ContextLengthExceededError, ServiceError


@dataclass(eq=False, kw_only=True)
class ServiceUnreachableError(ServiceError):
    """The service did not answer; `detail` is the reason."""

    uri: str

    def __str__(self) -> str:
        return f"The service does not answer at {self.uri} ({self.detail}). `cupola service status` tells how it is."


@dataclass(eq=False, kw_only=True)
class ConversationTooLongError(ContextLengthExceededError):
    """What was said does not fit in the model's context any more; `detail` is the service's sentence."""

    context_length: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0

    def __str__(self) -> str:
        return self.detail
