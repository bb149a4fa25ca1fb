"""The words and rows that tables, Markdown and HTML share."""

from collections.abc import Sequence
from dataclasses import dataclass

from cupola_server.bench.results import CellResult, Curve, Machine, Result, TargetResult
from cupola_server.bench.statistics import Figure, number

Cell = tuple[str, int, int]
SHARES = (0.5, 0.95, 0.99)


@dataclass(frozen=True, slots=True)
class Section:
    """Rows that belong together."""

    title: str
    rows: "tuple[Row, ...]"


@dataclass(frozen=True, slots=True)
class Row:
    """One quantity, of every target.

    Attributes:
        title: What it is.
        figures: In the order of the targets; None where there is none.
        notes: Why there is none, or what must be known, in the same order; nothing if there is nothing to say.
        noisy: Whether others disturbed every round of it, in the same order.
    """

    title: str
    figures: tuple[Figure | None, ...]
    notes: tuple[str, ...] = ()
    noisy: tuple[bool, ...] = ()

    @property
    def unit(self) -> str:
        """The unit of its figures."""
        return next(figure.unit for figure in self.figures if figure)


def sections_of(result: Result) -> list[Section]:
    """Return what at least one target has, the most asked for first."""
    sections = [_speed(result), _waiting(result), _pauses(result), _cost(result), _quality(result)]
    kept = [(title, tuple(row for row in rows if any(row.figures))) for title, rows in sections]
    return [Section(title, rows) for title, rows in kept if rows]


def ratios_of(result: Result) -> list[Section]:
    """Return speeds as multiples of our own service's, round by round; nothing where there is nothing to compare."""
    baseline = next((one for one in result.targets if one.name.partition("-")[0] == "http"), None)
    if baseline is None or len(result.targets) < 2:
        return []
    rows = [
        Row(title, tuple(_over(target, baseline, cell, name) for target in result.targets))
        for title, cell, name in _speeds(result)
    ]
    kept = tuple(row for row in rows if any(row.figures))
    return [Section(f"Speed, as a multiple of {baseline.title}", kept)] if kept else []


def _over(target: TargetResult, baseline: TargetResult, cell: Cell, name: str) -> Figure | None:
    mine, theirs = target.cell(*cell), baseline.cell(*cell)
    return mine.over(theirs, name) if mine and theirs else None


def _speeds(result: Result) -> list[tuple[str, Cell, str]]:
    """Name what is a speed: its title, the measurement, and the value."""
    plan = result.plan
    short = plan.prompt_tokens[0]
    found = [
        ("one answer", ("decode", 1, short), "decode_per_s")
        if streams == 1
        else (f"{streams} at a time", ("decode", streams, short), "total_per_s")
        for streams in plan.streams
    ]
    found += [(f"prompt of {tokens:,}", ("prefill", 1, tokens), "prefill_per_s") for tokens in plan.prompt_tokens]
    found += [
        (f"answers of one token, {streams} at a time", ("requests", streams, short), "requests_per_s")
        for streams in sorted({1, max(plan.streams)})
    ]
    return found


def _speed(result: Result) -> tuple[str, list[Row]]:
    return "Speed", [_row(result.targets, title, *cell, name) for title, cell, name in _speeds(result)]


def _waiting(result: Result) -> tuple[str, list[Row]]:
    plan, targets = result.plan, result.targets
    rows = []
    for streams in sorted({min(plan.streams), max(plan.streams)}):
        cells = [target.cell("decode", streams) for target in targets]
        rows += [_times(cells, f"{_at(streams)}, p{100 * share:.0f}", "ttft", share) for share in SHARES[:2]]
    rows += [
        _row(targets, f"prompt of {tokens:,}", "prefill", 1, tokens, "ttft_ms") for tokens in plan.prompt_tokens[1:]
    ]
    rows.append(_row(targets, "the same prompt again", "repeat", 1, plan.prompt_tokens[-1], "again"))
    return "Time to the first token", rows


def _pauses(result: Result) -> tuple[str, list[Row]]:
    plan, targets = result.plan, result.targets
    rows = []
    for streams in sorted({min(plan.streams), max(plan.streams)}):
        cells = [target.cell("decode", streams) for target in targets]
        rows += [_times(cells, f"{_at(streams)}, p{100 * share:.0f}", "gaps", share) for share in SHARES]
    return "Time between tokens", rows


def _cost(result: Result) -> tuple[str, list[Row]]:
    plan, targets = result.plan, result.targets
    short = plan.prompt_tokens[0]
    rows = [
        _row(targets, f"processor time of a token, {_at(streams)}", "decode", streams, short, "cpu_ms_per_token")
        for streams in sorted({min(plan.streams), max(plan.streams)})
    ]
    rows.append(_row(targets, "energy of a token", "decode", max(plan.streams), short, "energy_j_per_token"))
    loads = [Figure("s", target.load_s, False) if target.load_s else None for target in targets]
    peaks = [tuple(size / 1e6 for size in target.peak_bytes) for target in targets]
    rows.append(_plain("start until ready", loads))
    rows.append(_plain("most memory", [Figure("MB", sizes, False) if sizes else None for sizes in peaks]))
    return "Cost", rows


def _quality(result: Result) -> tuple[str, list[Row]]:
    read = [target.quality for target in result.targets]
    perplexities = [Figure("", (one.perplexity,), False) if one else None for one in read]
    distances = [
        Figure("nats", (one.divergence,), False) if one and one.divergence is not None else None for one in read
    ]
    rows = [_plain("perplexity of a short text", perplexities), _plain("KL from the first model", distances)]
    return "Quality", rows


def note_of(cell: CellResult | None) -> str:
    """Return what must be known of a measurement."""
    if cell is None:
        return ""
    if cell.problem:
        return cell.problem
    if cell.got_tokens < cell.asked_tokens:
        return f"answers ended early: {cell.got_tokens / max(cell.asked_tokens, 1):.0%} of the tokens asked for"
    return ""


def where(machine: Machine) -> str:
    """Return the machine in one line."""
    versions = ", ".join(f"{name} {machine.versions[name]}" for name in list(machine.versions)[:3])
    return (
        f"{machine.when[:10]}, {machine.processor}, {machine.cores} cores, {machine.memory_bytes / 1e9:.0f} GB, "
        f"{machine.platform.partition('-')[0]}, Python {machine.python}, {versions}"
    )


def remarks(result: Result) -> list[str]:
    """Return what a reader must know before believing the figures."""
    found = _of_rounds(result) if result.targets else []
    if result.curves:
        rounds = max(len(point.figure.values) for curve in result.curves for point in curve.points)
        found.append(f"Points of curves are medians of {_rounds(rounds)}, each point in turn, in one process.")
    if result.machine.energy and result.targets:
        found.append(f"Energy was not measured: {result.machine.energy}.")
    return found


def _of_rounds(result: Result) -> list[str]:
    samples = [sample for target in result.targets for cell in target.cells for sample in cell.samples]
    most = max((len(cell.samples) for target in result.targets for cell in target.cells), default=0)
    noisy = sum(sample.noisy for sample in samples)
    disturbed = (
        f"others used more than {result.plan.noise_bound:g} cores, or memory was more than {result.plan.slow_bound:g} "
        f"times slower than at its best of late"
    )
    return [
        f"Medians of {_rounds(most)}, each with everything started anew. Of the values of a second run of as many "
        f"rounds, nineteen of twenty are expected within ±.",
        f"Answers are greedy, {result.plan.new_tokens} tokens long, to prompts of {result.plan.prompt_tokens[0]:,} "
        f"tokens that share no beginning.",
        f"In {noisy} of {len(samples)} samples {disturbed}, also when they were taken again. They do not count where a "
        f"quiet round of the same measurement does; where there is none, the figure is marked ~."
        if noisy
        else f"In no sample {disturbed}.",
    ]


def _rounds(count: int) -> str:
    return f"{count} interleaved round{'s' * (count != 1)}"


def _name(streams: int) -> str:
    return "decode_per_s" if streams == 1 else "total_per_s"


def _at(streams: int) -> str:
    return "alone" if streams == 1 else f"{streams} at a time"


def _plain(title: str, figures: Sequence[Figure | None]) -> Row:
    return Row(title, tuple(figures))


def _row(targets: Sequence[TargetResult], title: str, kind: str, streams: int, prompt_tokens: int, name: str) -> Row:
    cells = [target.cell(kind, streams, prompt_tokens) for target in targets]
    figures = tuple(cell.figure(name) if cell else None for cell in cells)
    return Row(title, figures, _notes(cells), _noisy(cells))


def _times(cells: Sequence[CellResult | None], title: str, which: str, share: float) -> Row:
    rounds = [cell.times(which) if cell else [] for cell in cells]
    figures = tuple(Figure.quantile("ms", found, share) if found else None for found in rounds)
    return Row(title, figures, _notes(cells), _noisy(cells))


def _notes(cells: Sequence[CellResult | None]) -> tuple[str, ...]:
    return tuple(note_of(cell) for cell in cells)


def _noisy(cells: Sequence[CellResult | None]) -> tuple[bool, ...]:
    return tuple(cell is not None and cell.is_noisy for cell in cells)


def notes(result: Result) -> list[str]:
    """Return what must be known of single targets, and what was skipped."""
    found = []
    for target in result.targets:
        versions = ", ".join(f"{name} {version}" for name, version in target.versions.items())
        settings = ", ".join(f"{name} {value}" for name, value in target.settings.items())
        told = "; ".join(text for text in (versions, settings, target.note) if text)
        found.append(f"{target.title}: {told or target.model}.")
        found += [f"{target.title}: {text}." for text in _early(target.name, result)]
    return [*found, *(f"Not measured: {one.name}. {one.reason}" for one in result.skipped)]


def growth_text(curve: Curve) -> str:
    """Say how something grows: "memory grows as resident models to the power of 0.98"."""
    first, last = curve.points[0], curve.points[-1]
    over = curve.over.removesuffix("s") if first.x == 1 else curve.over
    text = (
        f"{curve.what} ({curve.target}): {_short(first.figure)} at {first.x:,.0f} {over}, "
        f"{_short(last.figure)} at {last.x:,.0f}; it grows as their number to the power of {curve.exponent:.2f}"
    )
    if curve.bends_at is not None and curve.exponent_after is not None:
        text += f" up to {curve.bends_at:,.0f}, then {curve.exponent_after:.2f}"
    return text + (f" ({curve.problem})" if curve.problem else "") + "."


def cell_text(row: Row, index: int) -> str:
    """Return a figure with its spread, "105 ±4%"; ~ marks what others disturbed."""
    figure = row.figures[index]
    if figure is None:
        return "-"
    mark = "~" if row.noisy and row.noisy[index] else ""
    return f"{mark}{number(figure.median)}{_spread_text(figure)}"


def _spread_text(figure: Figure) -> str:
    if len(figure.values) < 2:
        return ""
    return f" ±{100 * figure.spread:.0f}%" if figure.spread <= 1 else " ±>100%"


def _short(figure: Figure) -> str:
    return f"{number(figure.median)} {figure.unit}"


def _early(name: str, result: Result) -> list[str]:
    target = result.target(name)
    assert target
    cells = [cell for cell in target.cells if cell.kind == "decode" and cell.samples]
    asked, got = sum(cell.asked_tokens for cell in cells), sum(cell.got_tokens for cell in cells)
    problems = {cell.problem for cell in target.cells if cell.problem}
    early = [f"answers ended early, after {got / asked:.0%} of the tokens asked for"] if got < asked else []
    return [*early, *sorted(problems)]
