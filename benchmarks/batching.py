"""Many clients at once: the speed of batching over HTTP, against the bare generator and the bare session.

`python -m benchmarks.batching [--rounds N] [--smoke]`. The goals are the project's own. Each figure is a median over
interleaved rounds; each ratio is taken round by round.
"""

import argparse
import statistics
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import anyio
import psutil
from msgspec.structs import replace

from benchmarks.baselines.process import BaselineProcess
from benchmarks.harness import Checks, build_parser, divide, download_model, finish, metered, run_interleaved
from benchmarks.service import ServiceProcess, send_all
from cupola import Settings, load_settings
from cupola.frontend import ModelInfo
from cupola.settings import CacheSettings
from cupola_plugins.filesystem import FilesystemCache
from cupola_plugins.relayout import OnnxRelayout
from cupola_server.bench.client import TimedResponse, span_s, total_tokens
from cupola_server.bench.statistics import Figure

_MEDIUM_WORDS, _LONG_WORDS = 33, 883
"""Words of prompts of 50 and of 900 tokens in the starter model's template."""
_TEMPLATE_TOKENS = 17


class ServiceLoad:
    """Loads on one service, and the figures that they give.

    Args:
        service: The service.
        new_tokens: Length of the responses of streams.
        long_prompt: Length in tokens of the prompt for prefill.
    """

    def __init__(self, service: ServiceProcess, *, new_tokens: int, long_prompt: int) -> None:
        self._service, self._new_tokens, self._long_prompt = service, new_tokens, long_prompt

    def decode_per_s(self) -> float:
        """Return tokens per second of one stream after its first token."""
        return self._service.stream(self._service.make_messages(_MEDIUM_WORDS), self._new_tokens).decode_per_s

    def total_per_s(self, streams: int) -> float:
        """Return tokens per second of so many streams together."""
        responses = self._send([self._make_body(_MEDIUM_WORDS, self._new_tokens) for _ in range(streams)])
        return total_tokens(responses) / span_s(responses)

    def requests_per_s(self, at_once: int) -> float:
        """Return requests per second, of one token each."""
        responses = self._send([self._make_body(1, 1) for _ in range(5 * at_once)], at_once)
        return len(responses) / span_s(responses)

    def ttft_ms(self) -> float:
        """Return the median time to first token of five prompts of 50 tokens, one after the other, in milliseconds."""
        return 1000 * statistics.median(self._send([self._make_body(_MEDIUM_WORDS, 2)])[0].ttft_s for _ in range(5))

    def prefill_per_s(self) -> float:
        """Return prompt tokens per second up to the first token of the response."""
        messages = self._service.make_messages(self._long_prompt - _TEMPLATE_TOKENS)
        response = self._service.stream(messages, 2)
        return (response.prompt_tokens - response.cached_tokens) / response.ttft_s

    def repeated_ttft(self) -> float:
        """Return the time to first token of a repeated prompt of 900 tokens as a share of the first time."""
        messages = self._service.make_messages(_LONG_WORDS)
        first = self._service.stream(messages, 2).ttft_s
        return self._service.stream(messages, 2).ttft_s / first

    def _make_body(self, words: int, new_tokens: int) -> dict[str, Any]:
        return self._service.make_body(self._service.make_messages(words), new_tokens)

    def _send(self, bodies: Sequence[dict[str, Any]], at_once: int = 0) -> list[TimedResponse]:
        return send_all(self._service.url, bodies, at_once=at_once)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns 1 if a goal was missed, except in smoke runs."""
    parser = build_parser(__doc__, rounds=5)
    parser.add_argument("--name", default="batching", help="name of the result file")
    parser.add_argument(
        "--stock-int4", action="store_true", help="measure MODEL in 4-bit blocks, as model builders export it"
    )
    options = parser.parse_args(arguments)
    settings = load_settings()
    with tempfile.TemporaryDirectory() as work, metered() as meter:
        cache = settings.cache_dir
        if options.stock_int4:
            cache, options.model = Path(work), anyio.run(convert_to_int4, settings, options.model, Path(work))
        folder = anyio.run(download_model, replace(settings, cache=CacheSettings(dir=str(cache))), options.model)
        figures = _measure(folder, cache, options)
    title, checks = f"many clients, {options.model}", _checks(figures, stock_int4=options.stock_int4)
    return finish(options.name, title, figures, checks, meter=meter, smoke=options.smoke, model=options.model)


async def convert_to_int4(settings: Settings, model: str, cache: Path) -> str:
    """Add the model in 4-bit blocks, as a model builder exports it, to a cache; returns its id."""
    source = await download_model(settings, model)
    info = ModelInfo(id="stock-int4-generic-cpu:1", alias="stock-int4", source="benchmark", publisher="benchmark")
    async with await FilesystemCache(cache).reserve(info) as staging:
        await OnnxRelayout().convert(source, staging.path, layout="int4-blocks", progress=lambda _: None)
        (staging.path / "model.slots.onnx").unlink()  # model builders write one graph
        await staging.commit()
    return info.id


def _measure(folder: Path, cache: Path, options: argparse.Namespace) -> dict[str, Figure]:
    threads = psutil.cpu_count(logical=False) or 1
    raw = BaselineProcess("benchmarks.baselines.raw_generator", str(folder), str(threads))
    session = BaselineProcess("benchmarks.baselines.in_process", str(folder))
    with raw, session, ServiceProcess(cache, options.model) as service:
        values = run_interleaved(1 if options.smoke else options.rounds, _tasks(raw, session, service, options.smoke))
    figures = {name: Figure(_unit(name), tuple(found)) for name, found in values.items()}
    for over, under in [
        ("HTTP, 8 streams", "raw, 1 stream"),
        ("HTTP, 8 streams", "session, 8 rows"),
        ("HTTP, 1 stream", "raw, 1 stream"),
        ("HTTP prefill", "raw prefill"),
        ("HTTP, max_tokens=1, 8 at once", "raw, 1 stream"),
        ("HTTP, max_tokens=1, 8 at once", "HTTP, 1 stream"),
    ]:
        figures[f"{over} / {under}"] = divide(figures[over], figures[under])
    return figures


def _tasks(
    raw: BaselineProcess, session: BaselineProcess, service: ServiceProcess, smoke: bool
) -> dict[str, Callable[[], float]]:
    new_tokens, long_prompt = (8, 300) if smoke else (128, 2000)
    load = ServiceLoad(service, new_tokens=new_tokens, long_prompt=long_prompt)
    return {
        "raw, 1 stream": lambda: raw.run(prompt_tokens=50, new_tokens=new_tokens)["decode_per_s"],
        "HTTP, 1 stream": load.decode_per_s,
        "HTTP, 8 streams": lambda: load.total_per_s(8),
        "session, 8 rows": lambda: session.run(rows=8, prompt_tokens=50, new_tokens=new_tokens)["total_per_s"],
        "raw prefill": lambda: raw.run(prompt_tokens=long_prompt, new_tokens=1)["prefill_per_s"],
        "HTTP prefill": load.prefill_per_s,
        "HTTP, max_tokens=1, 8 at once": lambda: load.requests_per_s(8),
        "TTFT, 50 tokens": load.ttft_ms,
        "TTFT again / at first, 900 tokens": load.repeated_ttft,
    }


def _checks(figures: dict[str, Figure], *, stock_int4: bool) -> Checks:
    medians = {name: figure.median for name, figure in figures.items()}
    # With speculation one stream over HTTP gets several tokens of one pass; the raw one gets one token of each pass.
    step_ms = 1000 / medians["raw, 1 stream"]
    streams_goal = 2.3 if stock_int4 else 3.2
    return [
        (
            f"8 streams at least {streams_goal} of one raw stream",
            medians["HTTP, 8 streams / raw, 1 stream"] >= streams_goal,
        ),
        ("8 streams at least 0.80 of the session in process", medians["HTTP, 8 streams / session, 8 rows"] >= 0.8),
        ("one stream at least 0.95 of raw", medians["HTTP, 1 stream / raw, 1 stream"] >= 0.95),
        ("prefill of 2,000 tokens at least 2 times raw", medians["HTTP prefill / raw prefill"] >= 2),
        ("a repeated prompt at most 0.15", medians["TTFT again / at first, 900 tokens"] <= 0.15),
        (
            "requests of one token at least 0.6 of one raw stream's tokens",
            medians["HTTP, max_tokens=1, 8 at once / raw, 1 stream"] >= 0.6,
        ),
        ("TTFT of 50 tokens at most 3 decode steps", medians["TTFT, 50 tokens"] <= 3 * step_ms),
    ]


def _unit(name: str) -> str:
    if "again" in name:
        return "times"
    if "TTFT" in name:
        return "ms"
    return "requests/s" if "max_tokens" in name else "tokens/s"


if __name__ == "__main__":
    raise SystemExit(main())
