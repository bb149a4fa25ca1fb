"""Results of a benchmark as they are stored: one JSON file holds all that reports and comparisons need."""

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
"""Unit of each value of a sample, and whether more of it is better."""


class Machine(Struct, frozen=True):
    """The machine and the software that were measured.

    Attributes:
        when: UTC time of the measurement, ISO 8601.
        platform: Operating system and its version, as `platform.platform` reports it.
        processor: Name of the processor model.
        cores: Number of physical cores that could be used.
        memory_bytes: Total memory in bytes.
        python: Version of Python.
        versions: Versions of the installed packages that influence speed, by name.
        energy: Why energy was not measured; empty if it was.
    """

    when: str
    platform: str
    processor: str
    cores: int
    memory_bytes: int
    python: str
    versions: dict[str, str]
    energy: str = ""


class Plan(Struct, frozen=True):
    """The load that every target gets. Results can be merged if their plans are equal.

    Attributes:
        models: Ids of the models.
        streams: Numbers of concurrent requests to measure.
        prompt_tokens: Lengths of prompts in tokens, sorted.
        new_tokens: Length of responses in tokens.
        noise_bound: Cores that other processes may use on average before a sample counts as disturbed.
        slow_bound: How many times slower than at its best memory may be before a sample counts as disturbed.
    """

    models: tuple[str, ...]
    streams: tuple[int, ...] = (1, 2, 4, 8)
    prompt_tokens: tuple[int, ...] = (64, 1024)
    new_tokens: int = 64
    noise_bound: float = 0.1
    slow_bound: float = 1.15


class Times(Struct, frozen=True):
    """Distributions of times in milliseconds.

    Attributes:
        ttft: Times to the first token, one for each response.
        gaps: Times between consecutive pieces of text, of all responses.
    """

    ttft: Histogram = field(default_factory=Histogram)
    gaps: Histogram = field(default_factory=Histogram)


class Sample(Struct, frozen=True, omit_defaults=True):
    """The measurement of one cell in one round.

    Attributes:
        values: Values by the names in `UNITS`, in the units given there.
        others_cores: Cores that other processes used on average meanwhile.
        slowness: Time to read memory over its least of the last two minutes; the larger one of before and after.
        tries: How often it was measured.
        noisy: Whether every try was disturbed more than the plan allows.
        times: Distributions of its times; empty except for the kind "decode".
    """

    values: dict[str, float]
    others_cores: float
    slowness: float = 1.0
    tries: int = 1
    noisy: bool = False
    times: Times = Times()


class CellResult(Struct, frozen=True):
    """The result of one cell for one target.

    Attributes:
        kind: "decode", "prefill", "requests" or "repeat"; see `cells.Cell`.
        streams: Requests at a time.
        prompt_tokens: Length of each prompt in tokens.
        new_tokens: Length of each response in tokens.
        samples: One for each round.
        asked_tokens: Requested number of response tokens in all rounds.
        got_tokens: Received number of response tokens; less if responses ended early.
        problem: Why there are no samples, or no more of them.
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
        """Kind, streams and prompt tokens, which identify the cell within a target."""
        return self.kind, self.streams, self.prompt_tokens

    @property
    def is_noisy(self) -> bool:
        """Whether every round was disturbed."""
        return bool(self.samples) and all(sample.noisy for sample in self.samples)

    def times(self, which: str) -> list[Histogram]:
        """Return the distributions of "ttft" or "gaps", one for each round that has any times.

        Disturbed rounds count only where every round was disturbed.
        """
        histograms = [getattr(sample.times, which) for sample in self._counted_samples().values()]
        return [histogram for histogram in histograms if histogram.total]

    def figure(self, name: str) -> Figure | None:
        """Return one of the values in `UNITS` over the rounds; None if it was not measured.

        Disturbed rounds count only where every round was disturbed.
        """
        values = tuple(self._values(name).values())
        unit, more_is_better = UNITS[name]
        return Figure(unit, values, more_is_better) if values else None

    def ratio_to(self, other: "CellResult", name: str) -> Figure | None:
        """Return a value over that of another target, round by round, so that what slows a whole round cancels out."""
        own, others = self._values(name), other._values(name)
        ratios = [own[number] / others[number] for number in own if others.get(number)]
        return Figure("times", tuple(ratios), UNITS[name][1]) if ratios else None

    def _values(self, name: str) -> dict[int, float]:
        samples = self._counted_samples()
        return {number: sample.values[name] for number, sample in samples.items() if name in sample.values}

    def _counted_samples(self) -> dict[int, Sample]:
        return {number: sample for number, sample in enumerate(self.samples) if self.is_noisy or not sample.noisy}


class Quality(Struct, frozen=True):
    """The quality of a model's predictions on a short text.

    Attributes:
        perplexity: e to the mean negative log probability of the text's tokens, in nats.
        divergence: KL divergence from the reference model's predictions in nats per token; None without a reference.
        reference: Id of the reference model.
        tokens: Number of tokens that were evaluated.
    """

    perplexity: float
    divergence: float | None
    reference: str
    tokens: int


class TargetResult(Struct, frozen=True):
    """The results of one target.

    Attributes:
        name: Identifies the target, the same in every run.
        title: Name for tables and charts.
        model: The model's id or, where only the peer knows it, its name there.
        model_digest: SHA-256 of the model's files; empty where they are unknown.
        versions: Versions of packages that the target reports, by name.
        settings: Settings that the target reports, by name.
        note: A remark for readers of the report.
        load_s: Seconds from start until ready, for each round.
        peak_bytes: Sum of the peak memory of its processes in bytes, for each round.
        cells: One result for each cell of the plan.
        quality: Quality of its model; None for peers.
        quality_problem: Why quality is missing.
    """

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
        """Return the first matching cell; None matches any number of streams or prompt tokens."""
        for cell in self.cells:
            matches = streams in (None, cell.streams) and prompt_tokens in (None, cell.prompt_tokens)
            if cell.kind == kind and matches:
                return cell
        return None


class Skipped(Struct, frozen=True):
    """Something that was requested and could not be measured.

    Attributes:
        name: Name of the target, model or curve.
        reason: Why it could not be measured.
    """

    name: str
    reason: str


class Point(Struct, frozen=True):
    """One point of a curve.

    Attributes:
        x: Number of what the curve is over.
        figure: The values at x, one for each round.
    """

    x: float
    figure: Figure


class Curve(Struct, frozen=True):
    """How a cost grows, as points and as the power law that fits them.

    Attributes:
        over: What x counts: "prompt tokens", "streams" or "resident models".
        what: Name of the cost.
        target: Title of the target.
        points: Measured points, sorted by x.
        exponent: Exponent of the power law; 1 means proportional.
        bends_at: The x from which on a second power law fits much better; None if one law fits all points.
        exponent_after: Exponent of the second power law.
        problem: Why there are no points at larger x.
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
    """The result of a benchmark.

    Attributes:
        machine: Where it was measured.
        plan: What was measured.
        targets: Results of the targets.
        skipped: What could not be measured.
        curves: How cost grows.
        prompts_digest: SHA-256 of the token ids of all prompts.
        pieces: The `Machine.when` of every run that was merged into this result.
        format: Version of the file format.
    """

    machine: Machine
    plan: Plan
    targets: tuple[TargetResult, ...]
    skipped: tuple[Skipped, ...] = ()
    curves: tuple[Curve, ...] = ()
    prompts_digest: str = ""
    pieces: tuple[str, ...] = ()
    format: str = FORMAT

    @property
    def rounds(self) -> int:
        """The number of rounds, those of the target with the most."""
        return max((len(cell.samples) for target in self.targets for cell in target.cells), default=0)

    def target(self, name: str) -> TargetResult | None:
        """Return a target by its name."""
        return next((target for target in self.targets if target.name == name), None)


def read_result(path: Path) -> Result:
    """Read a result file.

    Raises:
        ResultFileError: The file cannot be read, or is no result of this format.
    """
    try:
        result = msgspec.json.decode(path.read_bytes(), type=Result)
    except OSError as error:
        raise ResultFileError(path=str(path), detail=f"cannot be read: {error.strerror or error}") from error
    except msgspec.DecodeError as error:
        raise ResultFileError(path=str(path), detail=f"is not a result of `cupola bench`: {error}") from error
    if result.format != FORMAT:
        raise ResultFileError(path=str(path), detail=f"has the format {result.format!r}; expected {FORMAT!r}")
    return result


def write_result(result: Result, path: Path) -> None:
    """Write a result file.

    Raises:
        ResultFileError: The file cannot be written.
    """
    try:
        path.write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=1) + b"\n")
    except OSError as error:
        raise ResultFileError(path=str(path), detail=f"cannot be written: {error.strerror or error}") from error
