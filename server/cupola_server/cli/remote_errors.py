"""What can come of asking the running service. Kept apart from `remote`, which imports httpx."""

from dataclasses import dataclass

from cupola.errors import ContextLengthExceededError


@dataclass(eq=False, kw_only=True)
class ConversationTooLongError(ContextLengthExceededError):
    """What was said does not fit in the model's context any more; `detail` is the service's sentence."""

    context_length: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0

    def __str__(self) -> str:
        return self.detail
