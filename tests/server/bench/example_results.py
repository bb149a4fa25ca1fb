"""Results as a benchmark produces them, for tests of reports and comparisons."""

from cupola_server.bench.results import (
    CellResult,
    Curve,
    Machine,
    Plan,
    Point,
    Quality,
    Result,
    Sample,
    Skipped,
    TargetResult,
    Times,
)
from cupola_server.bench.statistics import Figure, Histogram

PLAN = Plan(models=("tiny:1",), streams=(1, 4), prompt_tokens=(64, 256), new_tokens=8)
MACHINE = Machine(
    "2026-01-02T03:04:05+00:00", "Linux-6", "A <fast> one", 2, 8_000_000_000, "3.11.7", {"cupola": "0.1.0"}
)


def cell(kind, streams, prompt_tokens, values, *, noisy=False, got=1.0):
    histogram = Histogram.from_times([0.01, 0.02, 0.03, 0.5])
    times = Times(histogram, histogram) if kind == "decode" else Times()
    samples = tuple(Sample(value, 0.2 if noisy else 0.0, noisy=noisy, times=times) for value in values)
    asked = 8 * streams * len(samples)
    return CellResult(kind, streams, prompt_tokens, 8, samples, asked_tokens=asked, got_tokens=int(asked * got))


def target(name, speed, **fields):
    values = [
        {"total_per_s": speed * factor, "decode_per_s": speed * factor, "ttft_ms": 9.0, "cpu_ms_per_token": 5.0}
        for factor in (1, 1.01, 0.99)
    ]
    cells = [cell("decode", streams, 64, values) for streams in (1, 4)]
    cells.append(cell("prefill", 1, 256, [{"prefill_per_s": 10 * speed, "ttft_ms": 20.0}] * 3))
    cells.append(cell("requests", 4, 64, [{"requests_per_s": speed / 4, "ttft_ms": 9.0}] * 3))
    cells.append(cell("repeat", 1, 256, [{"again": 0.1}] * 3))
    return TargetResult(
        name=name, title=f"Cupola {name}", model="tiny:1", model_digest="d", load_s=(1.5,), peak_bytes=(300_000_000,),
        settings={"provider": "CPUExecutionProvider"}, **{"cells": tuple(cells), **fields},
    )  # fmt: skip


def result(speed=100.0, **fields):
    quality = Quality(8.5, 0.0, "tiny:1", 100)
    targets = (target("in-process", speed, quality=quality), target("http", 0.9 * speed))
    points = tuple(Point(float(x), Figure("ms", (1.0 * x, 1.1 * x))) for x in (64, 128, 256))
    curves = (Curve("prompt tokens", "time to first token", "Cupola over HTTP", points, 1.0),)
    fields = {
        "targets": targets,
        "skipped": (Skipped("other", "it cannot be <installed>"),),
        "curves": curves,
        "pieces": ("1",),
        **fields,
    }
    return Result(MACHINE, PLAN, **fields)
