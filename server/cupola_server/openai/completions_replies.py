"""From the pieces of answers to the bytes of OpenAI's older API, whole or in chunks."""

import codecs
import time
from collections.abc import Sequence
from typing import Literal
from uuid import uuid4

import msgspec

from cupola.frontend import TokenLogprob, Usage
from cupola_server.openai.logprobs import content_logprob
from cupola_server.openai.pieces import ContentDelta, Finished, Piece
from cupola_server.openai.replies import DONE, completion_usage, event
from cupola_server.openai.schema.completions import TextChoice, TextCompletion, TextLogprobs

_EMPTY_TEXT = b'"text":""'


class TextReplies:
    """Encodes the answers to one request. Takes either `note` and `whole`, or `opening`, `chunk` and `closing`.

    Args:
        model: Who answers.
        echoes: What comes before the answers to each prompt.
        per_prompt: How many answers each prompt gets.
        include_usage: Whether a stream tells at its end what it took.
    """

    def __init__(self, model: str, echoes: Sequence[str], *, per_prompt: int, include_usage: bool) -> None:
        self._per_prompt = per_prompt
        self._include_usage = include_usage
        usage = None if include_usage else msgspec.UNSET
        created = int(time.time())
        self._blank = TextCompletion(id=f"cmpl-{uuid4().hex}", created=created, model=model, choices=(), usage=usage)
        texts = (echo for echo in echoes for _ in range(per_prompt))
        self._drafts = [_Draft(index, echo) for index, echo in enumerate(texts)]
        self._frames = [self._frame(draft.index) for draft in self._drafts]

    async def note(self, index: int, piece: Piece) -> None:
        """Keep a piece of an answer for the whole reply."""
        self._drafts[index].add(piece)

    def whole(self) -> bytes:
        """Return the reply."""
        choices = tuple(draft.choice() for draft in self._drafts)
        return msgspec.json.encode(self._with_usage(choices))

    def opening(self) -> bytes:
        """Return the first chunk of each answer: the prompt if it is wanted back, or nothing yet."""
        return b"".join(self._chunk(TextChoice(index=draft.index, text=draft.echo)) for draft in self._drafts)

    def chunk(self, index: int, piece: Piece) -> bytes:
        """Return the chunk for a piece of an answer.

        All chunks of text are alike but for a few bytes, so a token costs the encoding of its text and nothing else.
        """
        if isinstance(piece, ContentDelta) and not piece.logprobs:
            self._drafts[index].pass_over(piece.text)
            before, after = self._frames[index]
            return before + msgspec.json.encode(piece.text) + after
        return self._chunk(self._drafts[index].delta(piece))

    def closing(self) -> bytes:
        """Return everything after the answers: what they took if that was asked for, and the end mark."""
        if not self._include_usage:
            return DONE
        return event(msgspec.json.encode(self._with_usage(()))) + DONE

    def _with_usage(self, choices: tuple[TextChoice, ...]) -> TextCompletion:
        """Add what all answers took. A prompt counts once, as at OpenAI."""
        usages = [draft.usage for draft in self._drafts]
        firsts = usages[:: self._per_prompt]
        usage = Usage(
            sum(usage.prompt_tokens for usage in firsts),
            sum(usage.completion_tokens for usage in usages),
            sum(usage.cached_tokens for usage in firsts),
        )
        return msgspec.structs.replace(self._blank, choices=choices, usage=completion_usage(usage))

    def _frame(self, index: int) -> tuple[bytes, bytes]:
        """Return what surrounds the text in a chunk of text."""
        # a quotation mark inside the id or the model's name would be escaped, so this is the only place it can match
        before, _, after = self._chunk(TextChoice(index=index, text="")).partition(_EMPTY_TEXT)
        return before + _EMPTY_TEXT.removesuffix(b'""'), after

    def _chunk(self, choice: TextChoice) -> bytes:
        return event(msgspec.json.encode(msgspec.structs.replace(self._blank, choices=(choice,))))


class _Draft:
    """One answer, as far as it is known."""

    def __init__(self, index: int, echo: str) -> None:
        self.index, self.echo = index, echo
        self.usage = Usage(0, 0)
        self._texts = [echo]
        self._logprobs: TextLogprobs | None = None
        self._reason: Literal["stop", "length"] | None = None
        self._at = len(echo)

    def add(self, piece: Piece) -> None:
        """Keep what comes next."""
        delta = self.delta(piece)
        self._texts.append(delta.text)
        self._reason = delta.finish_reason
        if delta.logprobs:
            self._logprobs = _joined(self._logprobs, delta.logprobs)

    def choice(self) -> TextChoice:
        """Return the whole answer."""
        return TextChoice(
            index=self.index, text="".join(self._texts), logprobs=self._logprobs, finish_reason=self._reason
        )

    def delta(self, piece: Piece) -> TextChoice:
        """Return what a piece adds."""
        if isinstance(piece, Finished):
            self.usage = piece.usage
            return TextChoice(index=self.index, text="", finish_reason="length" if piece.reason == "length" else "stop")
        assert isinstance(piece, ContentDelta), "nothing tells reasoning or calls apart here"
        logprobs = _described(piece.logprobs, self._at) if piece.logprobs else None
        self.pass_over(piece.text)
        return TextChoice(index=self.index, text=piece.text, logprobs=logprobs)

    def pass_over(self, text: str) -> None:
        """Count characters of the answer."""
        self._at += len(text)


def _described(tokens: Sequence[TokenLogprob], at: int) -> TextLogprobs:
    """Describe the tokens of a piece of text that begins at a character of the answer."""
    characters = codecs.getincrementaldecoder("utf-8")("replace")
    described = TextLogprobs(tokens=[], token_logprobs=[], top_logprobs=[], text_offset=[])
    for token in tokens:
        chosen = content_logprob(token)
        top: dict[str, float] = {}
        for one in chosen.top_logprobs:
            top.setdefault(_name(bytes(one.bytes)), one.logprob)
        name = _name(token.token)
        described.tokens.append(name)
        described.token_logprobs.append(chosen.logprob)
        described.top_logprobs.append(top | {name: chosen.logprob})
        described.text_offset.append(at)
        at += len(characters.decode(token.token))
    return described


def _name(token: bytes) -> str:
    """Write a token as OpenAI does: its text, or its bytes if they are no text."""
    try:
        return token.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in token)


def _joined(first: TextLogprobs | None, second: TextLogprobs) -> TextLogprobs:
    if first is None:
        return second
    return TextLogprobs(
        **{name: getattr(first, name) + getattr(second, name) for name in TextLogprobs.__struct_fields__}
    )
