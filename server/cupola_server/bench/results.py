"""What a run found, as it is stored: one JSON file holds everything that a report or a comparison needs."""

from collections.abc import Sequence
from pathlib import Path

import msgspec
from msgspec import Struct, field

from cupola_server.bench.errors import ResultFileError
from cupola_server.bench.statistics import Figure, Histogram

FORMAT = "cupola-bench/2"

UNITS: dict[str, tuple[str, bool | None]] = {
    "total_per_s": ("tokens/s", True),
    "decode_per_s": ("tokens/s", True),
    "prefill_per_s": ("tokens/s", True),
    "requests_per_s": ("requests/s", True),
    "ttft_ms": ("ms", False),
    "again": ("times", False),
    "cpu_ms_per_token": ("ms", False),
    "energy_j_per_token": ("J", False),
}
"""Unit of every value of a sample, and whether more of it is better."""


class Machine(Struct, frozen=True):
    """Where and with what it was measured."""

    when: str
    platform: str
    processor: str
    cores: int
    memory_bytes: int
    python: str
    versions: dict[str, str]
    energy: str = ""


class Plan(Struct, frozen=True):
    """What is asked for; two results with one plan can be put together."""

    models: tuple[str, ...]
    streams: tuple[int, ...] = (1, 2, 4, 8)
    prompt_tokens: tuple[int, ...] = (64, 1024)
    new_tokens: int = 64
    noise_bound: float = 0.1
    slow_bound: float = 1.15


class Times(Struct, frozen=True):
    """How times are distributed: to the first token, and between tokens."""

    ttft: Histogram = field(default_factory=Histogram)
    gaps: Histogram = field(default_factory=Histogram)


class Sample(Struct, frozen=True, omit_defaults=True):
    """One round of one measurement.

    Attributes:
        values: By the names in `UNITS`.
        others_cores: How many cores everybody else used meanwhile.
        slowness: How many times slower memory was than at its best of late, before or after, whichever is more.
        tries: How often it was taken before it was quiet, or given up.
        noisy: One of both was more than the plan allows, each time.
        times: Of its answers, where they are long enough to tell something.
    """

    values: dict[str, float]
    others_cores: float
    slowness: float = 1.0
    tries: int = 1
    noisy: bool = False
    times: Times = Times()


class CellResult(Struct, frozen=True):
    """One measurement of one target.

    Attributes:
        kind: "decode", "prefill", "requests" or "repeat".
        samples: One a round.
        asked_tokens: Tokens of answers that were asked for in all rounds, and
        got_tokens: that came; fewer mean that answers ended by themselves.
        problem: Why there is nothing.
    """

    kind: str
    streams: int
    prompt_tokens: int
    new_tokens: int
    samples: tuple[Sample, ...] = ()
    asked_tokens: int = 0
    got_tokens: int = 0
    problem: str = ""

    @property
    def key(self) -> tuple[str, int, int]:
        """What it is, the same for every target."""
        return self.kind, self.streams, self.prompt_tokens

    @property
    def is_noisy(self) -> bool:
        """Whether others disturbed every round."""
        return bool(self.samples) and all(sample.noisy for sample in self.samples)

    def times(self, which: str) -> list[Histogram]:
        """Return how its times to the first token ("ttft") or between tokens ("gaps") are distributed, by round.

        It is those of undisturbed rounds, if there are any.
        """
        found = [getattr(sample.times, which) for sample in self._counted().values()]
        return [times for times in found if times.total]

    def figure(self, name: str) -> Figure | None:
        """Return one of its values over the undisturbed rounds, or over all if there is none; None if not taken."""
        values = self._rounds(name)
        return Figure(*_unit(name, [*values.values()])) if values else None

    def over(self, other: "CellResult", name: str) -> Figure | None:
        """Divide by another target's value, round by round, so that what slowed a whole round down cancels out."""
        mine, theirs = self._rounds(name), other._rounds(name)
        ratios = [mine[number] / theirs[number] for number in mine if theirs.get(number)]
        return Figure("times", tuple(ratios), UNITS[name][1]) if ratios else None

    def _rounds(self, name: str) -> dict[int, float]:
        return {number: sample.values[name] for number, sample in self._counted().items() if name in sample.values}

    def _counted(self) -> dict[int, Sample]:
        return {number: sample for number, sample in enumerate(self.samples) if self.is_noisy or not sample.noisy}


class Quality(Struct, frozen=True):
    """How good a variant's predictions are: perplexity on a short text, and nats per token from the reference's."""

    perplexity: float
    divergence: float | None
    reference: str
    tokens: int


class TargetResult(Struct, frozen=True):
    """Everything about one of those that were compared."""

    name: str
    title: str
    model: str
    model_digest: str = ""
    versions: dict[str, str] = {}
    settings: dict[str, str] = {}
    note: str = ""
    load_s: tuple[float, ...] = ()
    peak_bytes: tuple[int, ...] = ()
    cells: tuple[CellResult, ...] = ()
    quality: Quality | None = None
    quality_problem: str = ""

    def cell(self, kind: str, streams: int | None = None, prompt_tokens: int | None = None) -> CellResult | None:
        """Find a measurement; the first that fits."""
        for cell in self.cells:
            fits = streams in (None, cell.streams) and prompt_tokens in (None, cell.prompt_tokens)
            if cell.kind == kind and fits:
                return cell
        return None


class Skipped(Struct, frozen=True):
    """What was asked for and could not be measured, and why."""

    name: str
    reason: str


class Point(Struct, frozen=True):
    """One point of a curve."""

    x: float
    figure: Figure


class Curve(Struct, frozen=True):
    """How a cost grows.

    Attributes:
        over: "prompt tokens", "streams" or "resident models".
        what: What grows.
        exponent: Of the power law that fits best: 1 is in proportion.
        bends_at: Where two lines fit much better than one; None where they do not.
        exponent_after: Of the second line.
        problem: Why there are no more points.
    """

    over: str
    what: str
    target: str
    points: tuple[Point, ...]
    exponent: float = 0.0
    bends_at: float | None = None
    exponent_after: float | None = None
    problem: str = ""


class Result(Struct, frozen=True):
    """A whole run."""

    machine: Machine
    plan: Plan
    targets: tuple[TargetResult, ...]
    skipped: tuple[Skipped, ...] = ()
    curves: tuple[Curve, ...] = ()
    prompts_digest: str = ""
    pieces: tuple[str, ...] = ()
    format: str = FORMAT

    def target(self, name: str) -> TargetResult | None:
        """Find a target by its name."""
        return next((target for target in self.targets if target.name == name), None)


def read(path: Path) -> Result:
    """Read a result file.

    Raises:
        ResultFileError: It is none, or cannot be read.
    """
    try:
        result = msgspec.json.decode(path.read_bytes(), type=Result)
    except OSError as error:
        raise ResultFileError(path=str(path), detail=f"cannot be read: {error.strerror or error}") from error
    except msgspec.DecodeError as error:
        raise ResultFileError(path=str(path), detail=f"is not one that `cupola bench` wrote: {error}") from error
    if result.format != FORMAT:
        raise ResultFileError(path=str(path), detail=f"has the format {result.format!r}, not {FORMAT!r}")
    return result


def write(result: Result, path: Path) -> None:
    """Write a result file.

    Raises:
        ResultFileError: The folder is missing or not writable.
    """
    try:
        path.write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=1) + b"\n")
    except OSError as error:
        raise ResultFileError(path=str(path), detail=f"cannot be written: {error.strerror or error}") from error


def joined(first: Result, second: Result, path: Path) -> Result:
    """Put the rounds of a second piece behind those of the first.

    Raises:
        ResultFileError: They are not of one plan, one machine and one set of models.
    """
    _ensure_alike(first, second, path)
    targets = [_joined_target(one, second.target(one.name)) for one in first.targets]
    known = {target.name for target in targets}
    targets += [target for target in second.targets if target.name not in known]
    return msgspec.structs.replace(
        first,
        targets=tuple(targets),
        skipped=tuple(one for one in first.skipped if second.target(one.name) is None),
        curves=(*[one for one in first.curves if not _has(second.curves, one)], *second.curves),
        pieces=(*first.pieces, *second.pieces),
    )


def _ensure_alike(first: Result, second: Result, path: Path) -> None:
    same_machine = (first.machine.processor, first.machine.cores) == (second.machine.processor, second.machine.cores)
    what = "plan" if first.plan != second.plan else "" if same_machine else "machine"
    for target in second.targets:
        other = first.target(target.name)
        if other and other.model_digest != target.model_digest:
            what = f"model under the name {target.name!r}"
    if what:
        raise ResultFileError(path=str(path), detail=f"is of another {what}; give this run a file of its own")


def _joined_target(first: TargetResult, second: TargetResult | None) -> TargetResult:
    if second is None:
        return first
    others = {cell.key: cell for cell in second.cells}
    return msgspec.structs.replace(
        first,
        load_s=first.load_s + second.load_s,
        peak_bytes=first.peak_bytes + second.peak_bytes,
        cells=tuple(_joined_cell(cell, others.get(cell.key)) for cell in first.cells),
        quality=second.quality or first.quality,
    )


def _joined_cell(first: CellResult, second: CellResult | None) -> CellResult:
    if second is None:
        return first
    return msgspec.structs.replace(
        first,
        samples=first.samples + second.samples,
        asked_tokens=first.asked_tokens + second.asked_tokens,
        got_tokens=first.got_tokens + second.got_tokens,
        problem=first.problem or second.problem,
    )


def _unit(name: str, values: Sequence[float]) -> tuple[str, tuple[float, ...], bool | None]:
    unit, more_is_better = UNITS[name]
    return unit, tuple(values), more_is_better


def _has(curves: Sequence[Curve], wanted: Curve) -> bool:
    return any((one.over, one.what, one.target) == (wanted.over, wanted.what, wanted.target) for one in curves)
