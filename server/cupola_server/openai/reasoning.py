"""Separates a model's reasoning from its answer by the markers that the model writes."""

from dataclasses import dataclass

from cupola_server.openai.stream_events import ReasoningDelta


@dataclass(frozen=True, slots=True)
class ReasoningFormat:
    """The markers that a family of models writes around its reasoning.

    Attributes:
        sign: Text in a chat template that identifies this format.
        opening: The marker before the reasoning, at the start of the answer or the end of the prompt.
        closing: The marker after the reasoning.
        special_tokens: Whether the markers are special tokens, which decoding skips unless they are requested.
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
    """Return the format whose sign a template contains; None if there is none."""
    return next((known for known in REASONING_FORMATS if known.sign in template), None)


class ReasoningSplitter:
    """Splits one answer into reasoning and the rest while it is generated.

    Whitespace around the reasoning counts as part of the markers.

    Args:
        format_: The markers.
        opened: Whether the prompt ended with the opening marker.

    Attributes:
        is_done: Whether the reasoning has ended, or there is none, so that all further text belongs to the answer.
    """

    def __init__(self, format_: ReasoningFormat, *, opened: bool) -> None:
        self.is_done = False
        self._format = format_
        self._held = ""
        self._step = self._begin_reasoning if opened else self._decide

    def feed(self, text: str) -> tuple[list[ReasoningDelta], str]:
        """Process more text. Returns the reasoning in it, and the text of the answer after it."""
        if self.is_done:
            return [], text
        self._held += text
        reasoning: list[ReasoningDelta] = []
        while self._step(reasoning):
            pass
        return reasoning, self._rest() if self.is_done else ""

    def finish(self) -> tuple[list[ReasoningDelta], str]:
        """Return the text held back, at the end of the answer."""
        rest = self._rest()
        if self.is_done or self._step == self._decide:
            return [], rest
        return ([ReasoningDelta(rest)] if rest.strip() else []), ""

    # Each step consumes part of `_held` and returns whether the next step can continue immediately.

    def _decide(self, reasoning: list[ReasoningDelta]) -> bool:  # noqa: ARG002 - one of the steps
        text = self._held.lstrip()
        if text.startswith(self._format.opening):
            self._held = text.removeprefix(self._format.opening)
            self._step = self._begin_reasoning
            return True
        if not self._format.opening.startswith(text):
            self.is_done = True
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
        self.is_done = bool(self._held)
        return False

    def _rest(self) -> str:
        rest, self._held = self._held, ""
        return rest


def overlap(text: str, *markers: str) -> int:
    """Return the length of the end of a text that may be the start of a marker."""
    longest = min(len(text), max((len(marker) for marker in markers), default=0) - 1)
    sizes = range(longest, 0, -1)
    return next((size for size in sizes if any(marker.startswith(text[-size:]) for marker in markers)), 0)
