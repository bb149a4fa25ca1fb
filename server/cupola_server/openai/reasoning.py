"""Reasoning: what a model thinks before it answers, told from the answer by the model's markers."""

from dataclasses import dataclass

from cupola_server.openai.pieces import ReasoningDelta


@dataclass(frozen=True, slots=True)
class ReasoningFormat:
    """How one family of models marks its reasoning.

    Attributes:
        sign: What shows in a chat template that its model reasons like this.
        opening: What reasoning begins with: the first thing of an answer, or the last of the prompt.
        closing: What ends it.
        special_tokens: The markers are special tokens, which must be asked for to be seen.
    """

    sign: str
    opening: str
    closing: str
    special_tokens: bool = False


THINK = ReasoningFormat("<think>", "<think>", "</think>")
REASONING_FORMATS = (
    THINK,
    ReasoningFormat("[THINK]", "[THINK]", "[/THINK]", special_tokens=True),
    ReasoningFormat(
        "<|channel|>analysis",
        "<|channel|>analysis<|message|>",
        "<|end|><|start|>assistant<|channel|>final<|message|>",
        special_tokens=True,
    ),
    ReasoningFormat("<|channel>", "<|channel>thought", "<channel|>", special_tokens=True),
)


def find_reasoning_format(template: str) -> ReasoningFormat | None:
    """Return the format whose sign is in a template; None if the template knows of no reasoning."""
    return next((known for known in REASONING_FORMATS if known.sign in template), None)


class ReasoningSplitter:
    """Splits one answer into reasoning and the rest, as it comes.

    Line ends around the reasoning belong to the markers.

    Args:
        format_: The markers.
        opened: The prompt ended with the opening marker.

    Attributes:
        passed: The reasoning is over, or there is none: whatever comes is the answer.
    """

    def __init__(self, format_: ReasoningFormat, *, opened: bool) -> None:
        self.passed = False
        self._format = format_
        self._held = ""
        self._step = self._begin_reasoning if opened else self._decide

    def feed(self, text: str) -> tuple[list[ReasoningDelta], str]:
        """Read on; returns reasoning, and the text of the answer that follows it."""
        if self.passed:
            return [], text
        self._held += text
        reasoning: list[ReasoningDelta] = []
        while self._step(reasoning):
            pass
        return reasoning, self._rest() if self.passed else ""

    def finish(self) -> tuple[list[ReasoningDelta], str]:
        """Return what was held back, once the answer is over."""
        rest = self._rest()
        if self.passed or self._step == self._decide:
            return [], rest
        return ([ReasoningDelta(rest)] if rest.strip() else []), ""

    # Each step takes what it can from `_held`, and says whether it is worth another look.

    def _decide(self, reasoning: list[ReasoningDelta]) -> bool:  # noqa: ARG002 - one of the steps
        text = self._held.lstrip()
        if text.startswith(self._format.opening):
            self._held = text.removeprefix(self._format.opening)
            self._step = self._begin_reasoning
            return True
        if not self._format.opening.startswith(text):
            self.passed = True
        return False

    def _begin_reasoning(self, reasoning: list[ReasoningDelta]) -> bool:  # noqa: ARG002 - one of the steps
        self._held = self._held.lstrip()
        if self._held:
            self._step = self._reason
        return bool(self._held)

    def _reason(self, reasoning: list[ReasoningDelta]) -> bool:
        before, closing, after = self._held.partition(self._format.closing)
        if not closing:
            before = before[: len(before) - overlap(before, self._format.closing)]
        before = before.rstrip()
        if before:
            reasoning.append(ReasoningDelta(before))
        self._held = after if closing else self._held[len(before) :]
        if closing:
            self._step = self._begin_answer
        return bool(closing)

    def _begin_answer(self, reasoning: list[ReasoningDelta]) -> bool:  # noqa: ARG002 - one of the steps
        self._held = self._held.lstrip()
        self.passed = bool(self._held)
        return False

    def _rest(self) -> str:
        rest, self._held = self._held, ""
        return rest


def overlap(text: str, *markers: str) -> int:
    """Return how much of the end of a text may be the beginning of a marker."""
    longest = min(len(text), max((len(marker) for marker in markers), default=0) - 1)
    sizes = range(longest, 0, -1)
    return next((size for size in sizes if any(marker.startswith(text[-size:]) for marker in markers)), 0)
