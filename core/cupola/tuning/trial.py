"""Measures one layout of a model in a worker: speed, memory, and divergence from the source's predictions."""

import itertools
import statistics
from collections.abc import Sequence
from functools import partial

import anyio
from msgspec import Struct

from cupola.errors import CupolaError, RequestError
from cupola.messages import GenerateRequest, Sampling, TextPrompt, TokenLogprob, TokenPrompt, TurnFinished, TurnText
from cupola.protocol import TokenizeText, Tokens
from cupola.tuning.quality import TEXT, Predictions, divergence, score_text
from cupola.worker.process import Worker, WorkerSpec, open_worker

ROUNDS = 3
_PROMPT_TOKENS, _NEW_TOKENS, _ROWS = 512, 32, 8
_GREEDY = Sampling(temperature=0.0)


class Trial(Struct, frozen=True):
    """The measurements of one layout. Speeds are medians over rounds, in tokens per second.

    Attributes:
        layout: Name of the layout.
        size_bytes: Size of the files.
        load_s: Time to start the worker and load the model, in seconds.
        memory_bytes: Memory of the worker after loading.
        prefill_per_s: Prefill speed for a prompt of 512 tokens.
        decode_per_s: Decode speed of a single stream.
        batch_per_s: Decode speed of eight streams together.
        divergence: Kullback-Leibler divergence from the source's predictions in nats per token of a short text, a
            lower bound from the 200 most likely tokens; 0 for the source, None without log probabilities.
        problem: Why there are no measurements; "" otherwise.
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


async def measure_layout(
    spec: WorkerSpec, layout: str, size_bytes: int, source: Predictions
) -> tuple[Trial, Predictions]:
    """Measure one layout.

    Args:
        spec: How to start a worker for it.
        layout: Name of the layout; empty uses the name that the worker reports.
        size_bytes: Size of its files.
        source: The source's predictions; empty when measuring the source.

    Returns:
        The measurements, and the predictions of this layout.
    """
    result: tuple[Trial, Predictions]
    try:
        async with open_worker(spec) as worker, anyio.create_task_group() as group:
            group.start_soon(worker.run)
            result = await _measure(worker, layout, size_bytes, source)
            await worker.close(RequestError(detail="The trial is over."))
    except* CupolaError as errors:
        result = Trial(layout, size_bytes, problem=str(errors.exceptions[0])), []
    return result


async def _measure(worker: Worker, layout: str, size_bytes: int, source: Predictions) -> tuple[Trial, Predictions]:
    reply = await worker.ask(TokenizeText(TextPrompt(TEXT)))
    assert isinstance(reply, Tokens)
    text = reply.tokens
    predictions = (await score_text(partial(_logprobs, worker), text)).tops
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
    events = await _run_turn(worker, request)
    return [token for _, event in events if isinstance(event, TurnText) for token in event.logprobs]


async def _prefill(worker: Worker, text: Sequence[int], number: int) -> float:
    length = min(_PROMPT_TOKENS, worker.report.context_length - 2)
    started = anyio.current_time()
    events = await _run_turn(worker, _request(_rotated_prompt(text, length, number), 1))
    return length / (events[0][0] - started)


async def _decode(worker: Worker, text: Sequence[int], rows: int, number: int) -> float:
    """Return the tokens per second of several streams together, from the first token of any to the last of all."""
    events: list[tuple[float, TurnText | TurnFinished]] = []

    async def run_row(row: int) -> None:
        prompt = _rotated_prompt(text, 24, 100 * number + row + 1)
        events.extend(await _run_turn(worker, _request(prompt, _NEW_TOKENS)))

    async with anyio.create_task_group() as group:
        for row in range(rows):
            group.start_soon(run_row, row)
    times = [at for at, event in events if isinstance(event, TurnText)]
    tokens = sum(event.tokens for _, event in events if isinstance(event, TurnText))
    return (tokens - rows) / max(max(times) - min(times), 1e-9)


async def _run_turn(worker: Worker, request: GenerateRequest) -> list[tuple[float, TurnText | TurnFinished]]:
    """Run a turn to its end, and return its events with their times."""
    turn = await worker.submit(request)
    events: list[tuple[float, TurnText | TurnFinished]] = []
    while not (events and isinstance(events[-1][1], TurnFinished)):
        event = await turn.mailbox.get()
        assert isinstance(event, TurnText | TurnFinished)
        events.append((anyio.current_time(), event))
    return events


def _request(prompt: Sequence[int], new_tokens: int) -> GenerateRequest:
    return GenerateRequest("", TokenPrompt(tuple(prompt)), _GREEDY, new_tokens, ignore_eos=True)


def _rotated_prompt(text: Sequence[int], length: int, number: int) -> tuple[int, ...]:
    """Create a prompt from the text that starts differently for each number."""
    start = 1 + 7 * number % (len(text) - 1)
    return tuple(itertools.islice(itertools.cycle([*text[start:], *text[:start]]), length))
