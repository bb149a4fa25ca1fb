"""Measures one layout of a model, in a real worker: speed, memory, and how far its predictions are off the source's."""

import itertools
import statistics
from collections.abc import Sequence
from functools import partial

import anyio
from msgspec import Struct

from cupola.errors import CupolaError, RequestError
from cupola.messages import GenerateRequest, Sampling, TextPrompt, TokenLogprob, TokenPrompt, TurnFinished, TurnText
from cupola.protocol import TokenizeText, Tokens
from cupola.tuning.quality import TEXT, Predictions, divergence, read_text
from cupola.worker.process import Worker, WorkerSpec, open_worker

ROUNDS = 3
_PROMPT_TOKENS, _NEW_TOKENS, _ROWS = 512, 32, 8
_GREEDY = Sampling(temperature=0.0)


class Trial(Struct, frozen=True):
    """How one layout did. Speeds in tokens per second, medians of a few rounds.

    Attributes:
        layout: Its name.
        size_bytes: Of the files.
        load_s: Starting the worker and loading.
        memory_bytes: Of the worker, after loading.
        prefill_per_s: Of a prompt of 512 tokens.
        decode_per_s: One answer alone.
        batch_per_s: Eight answers together.
        divergence: Kullback-Leibler divergence from the source's predictions, in nats per token of a short text, a
            lower bound from the 200 likeliest tokens; 0 for the source, None where the session gives no log
            probabilities.
        problem: Why there are no figures, if there are none.
    """

    layout: str
    size_bytes: int = 0
    load_s: float = 0.0
    memory_bytes: int = 0
    prefill_per_s: float = 0.0
    decode_per_s: float = 0.0
    batch_per_s: float = 0.0
    divergence: float | None = None
    problem: str = ""


async def try_out(spec: WorkerSpec, layout: str, size_bytes: int, source: Predictions) -> tuple[Trial, Predictions]:
    """Measure one layout.

    Args:
        spec: Starts a worker with it.
        layout: Its name; empty asks the worker.
        size_bytes: Of its files.
        source: The source's predictions; empty for the source itself.

    Returns:
        The figures, and its own predictions.
    """
    found: tuple[Trial, Predictions]
    try:
        async with open_worker(spec) as worker, anyio.create_task_group() as group:
            group.start_soon(worker.run)
            found = await _measured(worker, layout, size_bytes, source)
            await worker.close(RequestError(detail="The trial is over."))
    except* CupolaError as errors:
        found = Trial(layout, size_bytes, problem=str(errors.exceptions[0])), []
    return found


async def _measured(worker: Worker, layout: str, size_bytes: int, source: Predictions) -> tuple[Trial, Predictions]:
    asked = await worker.ask(TokenizeText(TextPrompt(TEXT)))
    assert isinstance(asked, Tokens)
    text = asked.tokens
    predictions = (await read_text(partial(_logprobs, worker), text)).tops
    prefill, decode, batch = [], [], []
    for number in range(ROUNDS):
        prefill.append(await _prefill(worker, text, number))
        decode.append(await _decode(worker, text, 1, number))
        batch.append(await _decode(worker, text, _ROWS, number))
    trial = Trial(
        layout=layout or worker.report.layout or "as it came",
        size_bytes=size_bytes,
        load_s=worker.report.load_s,
        memory_bytes=worker.report.resident_bytes,
        prefill_per_s=statistics.median(prefill),
        decode_per_s=statistics.median(decode),
        batch_per_s=statistics.median(batch),
        divergence=(divergence(source, predictions) or 0.0) if predictions else None,
    )
    return trial, predictions


async def _logprobs(worker: Worker, request: GenerateRequest) -> list[TokenLogprob]:
    events = await _events(worker, request)
    return [one for _, event in events if isinstance(event, TurnText) for one in event.logprobs]


async def _prefill(worker: Worker, text: Sequence[int], number: int) -> float:
    length = min(_PROMPT_TOKENS, worker.report.context_length - 2)
    started = anyio.current_time()
    events = await _events(worker, _request(_turned(text, length, number), 1))
    return length / (events[0][0] - started)


async def _decode(worker: Worker, text: Sequence[int], rows: int, number: int) -> float:
    """Return tokens per second of so many answers together, from the first token of any to the last of all."""
    found: list[tuple[float, TurnText | TurnFinished]] = []

    async def one(row: int) -> None:
        prompt = _turned(text, 24, 100 * number + row + 1)
        found.extend(await _events(worker, _request(prompt, _NEW_TOKENS)))

    async with anyio.create_task_group() as group:
        for row in range(rows):
            group.start_soon(one, row)
    times = [at for at, event in found if isinstance(event, TurnText)]
    tokens = sum(event.tokens for _, event in found if isinstance(event, TurnText))
    return (tokens - rows) / max(max(times) - min(times), 1e-9)


async def _events(worker: Worker, request: GenerateRequest) -> list[tuple[float, TurnText | TurnFinished]]:
    """Run a turn to its end; every event with the time at which it came."""
    turn = await worker.submit(request)
    events: list[tuple[float, TurnText | TurnFinished]] = []
    while not (events and isinstance(events[-1][1], TurnFinished)):
        event = await turn.mailbox.get()
        assert isinstance(event, TurnText | TurnFinished)
        events.append((anyio.current_time(), event))
    return events


def _request(prompt: Sequence[int], new_tokens: int) -> GenerateRequest:
    return GenerateRequest("", TokenPrompt(tuple(prompt)), _GREEDY, new_tokens, ignore_eos=True)


def _turned(text: Sequence[int], length: int, number: int) -> tuple[int, ...]:
    """Make a prompt of the text's tokens that begins like no other."""
    start = 1 + 7 * number % (len(text) - 1)
    return tuple(itertools.islice(itertools.cycle([*text[start:], *text[:start]]), length))
