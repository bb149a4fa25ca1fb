"""The `paged` session: continuous batching by onnxruntime-genai's own engine, for exports with PagedAttention.

These models run on CUDA and WebGPU devices only, and onnxruntime-genai 0.18 runs them through `og.Engine` only. The
engine batches, chunks prompts, shares prefixes and samples by itself. Parameters that its `TurnOptions` lack are
rejected before a turn is accepted. This is not verified on such hardware: the tests use the engine's static batching
on the CPU, where later turns wait until the current batch ends.
"""

import json
import logging
from collections.abc import Sequence
from typing import Any

import onnxruntime_genai as og

from cupola.errors import CupolaError, InvalidParameterError, LoadError, WorkerError, to_wire
from cupola.provider import FinishReason, Guidance, Session, TokenEvent, Tokenizer, Turn
from cupola_providers.runtime.config import GenaiConfig, resolve

logger = logging.getLogger(__name__)

_FINISHED = int(og.EngineEventFlags.TURN_FINISHED.value)
_TOKEN = int(og.EngineEventFlags.TOKEN.value)
_FAILED = int(og.EngineEventFlags.FAILED.value)
_REASONS: dict[Any, FinishReason] = {
    og.FinishReason.EOS: "stop",
    og.FinishReason.STOP_STRING: "stop",
    og.FinishReason.MAX_GENERATED_TOKENS: "length",
    og.FinishReason.MAX_SESSION_TOKENS: "length",
    og.FinishReason.CANCELLED: "cancelled",
}
_EVENTS_PER_TURN = 4
_MOST_TURNS_BY_DEFAULT = 4


class PagedSession(Session):
    """Runs all turns in the engine's batch in each step.

    Args:
        model: The `og.Model`.
        config: Its configuration.
        tokenizer: Its tokenizer.
        context_length: Maximum number of tokens of prompt and answer together.

    Raises:
        LoadError: The engine cannot run the model on this device; the detail is the library's message.
    """

    kind = "paged"
    reason = "it was exported with PagedAttention, which onnxruntime-genai's engine batches"

    def __init__(self, model: Any, config: GenaiConfig, tokenizer: Tokenizer, *, context_length: int) -> None:
        self.tokenizer = tokenizer
        self.context_length = context_length
        self._config = config
        try:
            self._engine = og.Engine(model)
        except RuntimeError as error:
            detail = f"onnxruntime-genai's engine rejected it: {str(error).splitlines()[0][:500]}"
            raise LoadError(model=config.model.type, detail=detail) from error
        self.capacity = self._engine.get_capabilities().configured_max_batch_size or _MOST_TURNS_BY_DEFAULT
        self._events = self._engine.create_event_buffer(_EVENTS_PER_TURN * self.capacity)
        self._turns: dict[int, tuple[Any, int, Turn]] = {}
        self._refused: list[TokenEvent] = []

    def check(self, turn: Turn) -> None:
        """Reject parameters that the engine would ignore."""
        sampling = turn.sampling
        unknown = {
            "min_p": sampling.min_p,
            "presence_penalty": sampling.presence_penalty,
            "frequency_penalty": sampling.frequency_penalty,
            "logit_bias": sampling.logit_bias,
            "stop_token_ids": turn.stop_token_ids,
            "logprobs": turn.top_logprobs is not None,
        }
        for name, asked in unknown.items():
            if asked:
                detail = f"{name} is not supported by the engine that runs this model. Leave it out."
                raise InvalidParameterError(param=name, detail=detail)
        vocab_size = self._config.model.vocab_size
        if min(turn.prompt) < 0 or max(turn.prompt) >= vocab_size:
            detail = f"A token of the prompt is not in this model's vocabulary: ids go from 0 to {vocab_size - 1}."
            raise InvalidParameterError(param="prompt", detail=detail)

    def admit(self, turn: Turn) -> None:
        """Pass a turn to the engine. The next step reports the error of a turn that it rejects."""
        try:
            request = self._engine.create_request()
            options = self._options(request, turn)
            self._turns[turn.id] = (request, request.begin_turn(list(turn.prompt), options), turn)
        except (RuntimeError, CupolaError) as error:
            wrong = (
                error
                if isinstance(error, CupolaError)
                else WorkerError(detail=f"The engine rejected the turn: {error}")
            )
            self._refused.append(TokenEvent(turn.id, error=to_wire(wrong)))

    def step(self) -> Sequence[TokenEvent]:
        """Run the engine once; returns a token of every turn in its batch."""
        events, self._refused = self._refused, []
        if self._turns and self._engine.has_pending_requests():
            found = self._engine.run(self._events) or self._events
            events += [event for one in range(len(found)) if (event := self._event(found[one])) is not None]
        return events

    def cancel(self, turn_id: int) -> None:
        """Cancel a turn in the engine."""
        self._refused = [event for event in self._refused if event.turn_id != turn_id]
        if found := self._turns.pop(turn_id, None):
            request, number, _ = found
            request.cancel_turn(number)
            request.close()

    def close(self) -> None:
        """End every turn and free the engine."""
        for turn_id in list(self._turns):
            self.cancel(turn_id)
        self._events = self._engine = None

    def _options(self, request: Any, turn: Turn) -> Any:
        sampling = resolve(turn.sampling, self._config)
        options = og.TurnOptions(request)
        options.set_max_generated_tokens(turn.max_tokens)
        least = turn.max_tokens if turn.ignore_eos else turn.min_tokens
        if least:
            options.set_min_generated_tokens(least)
        options.set_do_sample(bool(sampling.temperature))
        if sampling.temperature:
            options.set_temperature(sampling.temperature)
            options.set_top_k(sampling.top_k or 0)
            options.set_top_p(1.0 if sampling.top_p is None else sampling.top_p)
            if turn.sampling.seed is not None:
                options.set_seed(turn.sampling.seed % 2**63)
        if sampling.repetition_penalty and sampling.repetition_penalty != 1:
            options.set_repetition_penalty(sampling.repetition_penalty)
        if turn.guidance:
            options.set_guidance(*_library_guidance(turn.guidance))
        return options

    def _event(self, event: Any) -> TokenEvent | None:
        turn_id = next((turn for turn, (request, _, _) in self._turns.items() if request is event.request), None)
        if turn_id is None:
            return None
        flags, usage = int(event.flags.value), event.usage
        cached = usage.cached_prompt_tokens if usage else 0
        tokens = (event.token,) if flags & _TOKEN and event.token is not None else ()
        if flags & _FAILED:
            self._forget(turn_id)
            wrong = WorkerError(detail=f"The engine stopped this answer with an error: {event.error_code}")
            return TokenEvent(turn_id, cached_tokens=cached, error=to_wire(wrong))
        finish = _REASONS.get(event.finish_reason) if flags & _FINISHED else None
        if finish:
            self._forget(turn_id)
        return TokenEvent(turn_id, tokens, finish=finish, cached_tokens=cached)

    def _forget(self, turn_id: int) -> None:
        request, _, _ = self._turns.pop(turn_id)
        request.close()


def _library_guidance(guidance: Guidance) -> tuple[str, str]:
    """Return the kind and text of a guidance in onnxruntime-genai's terms."""
    match guidance.kind:
        case "json_object":
            return "json_schema", '{"type": "object"}'
        case "json_schema" | "regex":
            return guidance.kind, guidance.text
        case "choice":
            words = " | ".join(json.dumps(word, ensure_ascii=False) for word in json.loads(guidance.text))
            return "lark_grammar", f"start: {words}"
        case "lark":
            return "lark_grammar", guidance.text
