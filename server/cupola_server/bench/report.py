"""The content of a report, shared by tables, Markdown and the HTML page: sections of figures, and remarks on them."""

from collections.abc import Sequence
from dataclasses import dataclass

from cupola_server.bench.results import CellResult, Curve, Machine, Result, TargetResult
from cupola_server.bench.statistics import Figure, format_number

CellKey = tuple[str, int, int]
"""Kind, streams and prompt tokens of a cell."""

PERCENTILES = (0.5, 0.95, 0.99)


@dataclass(frozen=True, slots=True)
class Row:
    """One quantity of every target. All sequences are in the order of the targets.

    Attributes:
        title: Name of the quantity.
        figures: Its figures; None where it was not measured.
        notes: Why a figure is missing, or what limits it; empty for rows without notes.
        noisy: Whether every round of a figure was disturbed; empty for rows without this information.
    """

    title: str
    figures: tuple[Figure | None, ...]
    notes: tuple[str, ...] = ()
    noisy: tuple[bool, ...] = ()

    @property
    def unit(self) -> str:
        """The unit of its figures."""
        return next(figure.unit for figure in self.figures if figure)


@dataclass(frozen=True, slots=True)
class Section:
    """A titled group of rows."""

    title: str
    rows: tuple[Row, ...]


def build_sections(result: Result) -> list[Section]:
    """Return all sections with the rows that at least one target has figures for."""
    builders = (_speed_rows, _ttft_rows, _gap_rows, _cost_rows, _quality_rows)
    titled_rows = [build(result) for build in builders]
    sections = [Section(title, tuple(row for row in rows if any(row.figures))) for title, rows in titled_rows]
    return [section for section in sections if section.rows]


def build_ratio_sections(result: Result) -> list[Section]:
    """Return speeds as multiples of the service's speeds; empty if the service or another target is missing."""
    baseline = next((target for target in result.targets if target.name.partition("-")[0] == "http"), None)
    if baseline is None or len(result.targets) < 2:
        return []
    rows = [
        Row(title, tuple(_ratio(target, baseline, key, name) for target in result.targets))
        for title, key, name in _speeds(result)
    ]
    kept = tuple(row for row in rows if any(row.figures))
    return [Section(f"Speed, as a multiple of {baseline.title}", kept)] if kept else []


def build_remarks(result: Result) -> list[str]:
    """Return sentences on how the figures were measured and how far they can be trusted."""
    remarks = _round_remarks(result) if result.targets else []
    if result.curves:
        rounds = max(len(point.figure.values) for curve in result.curves for point in curve.points)
        remarks.append(
            f"Each point of a curve is the median of {_format_rounds(rounds)}, measured in turn in one process."
        )
    if result.machine.energy and result.targets:
        remarks.append(f"Energy was not measured: {result.machine.energy}.")
    return remarks


def build_notes(result: Result) -> list[str]:
    """Return sentences on single targets, and on what was not measured."""
    notes = []
    for target in result.targets:
        versions = ", ".join(f"{name} {version}" for name, version in target.versions.items())
        settings = ", ".join(f"{name} {value}" for name, value in target.settings.items())
        details = "; ".join(text for text in (versions, settings, target.note) if text)
        notes.append(f"{target.title}: {details or target.model}.")
        notes += [f"{target.title}: {problem}." for problem in _target_problems(target)]
    return [*notes, *(f"Not measured: {skipped.name}. {skipped.reason}" for skipped in result.skipped)]


def describe_growth(curve: Curve) -> str:
    """Return a sentence on a curve: first and last point, and the exponent of its growth."""
    first, last = curve.points[0], curve.points[-1]
    over = curve.over.removesuffix("s") if first.x == 1 else curve.over
    text = (
        f"{curve.what} ({curve.target}): {_format_median(first.figure)} at {first.x:,.0f} {over}, "
        f"{_format_median(last.figure)} at {last.x:,.0f}; it grows as their number to the power of {curve.exponent:.2f}"
    )
    if curve.bends_at is not None and curve.exponent_after is not None:
        text += f" up to {curve.bends_at:,.0f}, then {curve.exponent_after:.2f}"
    return text + (f" ({curve.problem})" if curve.problem else "") + "."


def format_machine(machine: Machine) -> str:
    """Return date, machine and versions in one line."""
    versions = ", ".join(f"{name} {machine.versions[name]}" for name in list(machine.versions)[:3])
    return (
        f"{machine.when[:10]}, {machine.processor}, {machine.cores} cores, {machine.memory_bytes / 1e9:.0f} GB, "
        f"{machine.platform.partition('-')[0]}, Python {machine.python}, {versions}"
    )


def format_cell(row: Row, index: int) -> str:
    """Return the figure of one target with its spread, "105 ±4%", marked with ~ if every round was disturbed."""
    figure = row.figures[index]
    if figure is None:
        return "-"
    mark = "~" if row.noisy and row.noisy[index] else ""
    return f"{mark}{format_number(figure.median)}{_format_spread(figure)}"


def _speeds(result: Result) -> list[tuple[str, CellKey, str]]:
    """Return title, cell and name of the value of everything that is a speed."""
    plan = result.plan
    short = plan.prompt_tokens[0]
    speeds = [
        ("one answer", ("decode", 1, short), "decode_per_s")
        if streams == 1
        else (f"{streams} at a time", ("decode", streams, short), "total_per_s")
        for streams in plan.streams
    ]
    speeds += [(f"prompt of {tokens:,}", ("prefill", 1, tokens), "prefill_per_s") for tokens in plan.prompt_tokens]
    speeds += [
        (f"answers of one token, {streams} at a time", ("requests", streams, short), "requests_per_s")
        for streams in sorted({1, max(plan.streams)})
    ]
    return speeds


def _speed_rows(result: Result) -> tuple[str, list[Row]]:
    return "Speed", [_value_row(result.targets, title, *key, name) for title, key, name in _speeds(result)]


def _ttft_rows(result: Result) -> tuple[str, list[Row]]:
    plan, targets = result.plan, result.targets
    rows = _percentile_rows(result, "ttft", PERCENTILES[:2])
    rows += [
        _value_row(targets, f"prompt of {tokens:,}", "prefill", 1, tokens, "ttft_ms")
        for tokens in plan.prompt_tokens[1:]
    ]
    rows.append(_value_row(targets, "the same prompt again", "repeat", 1, plan.prompt_tokens[-1], "again"))
    return "Time to the first token", rows


def _gap_rows(result: Result) -> tuple[str, list[Row]]:
    return "Time between tokens", _percentile_rows(result, "gaps", PERCENTILES)


def _cost_rows(result: Result) -> tuple[str, list[Row]]:
    plan, targets = result.plan, result.targets
    short = plan.prompt_tokens[0]
    rows = []
    for streams in _least_and_most_streams(result):
        title = f"processor time of a token, {_format_streams(streams)}"
        rows.append(_value_row(targets, title, "decode", streams, short, "cpu_ms_per_token"))
    rows.append(_value_row(targets, "energy of a token", "decode", max(plan.streams), short, "energy_j_per_token"))
    loads = tuple(Figure("s", target.load_s, False) if target.load_s else None for target in targets)
    peaks = [tuple(size / 1e6 for size in target.peak_bytes) for target in targets]
    rows.append(Row("start until ready", loads))
    rows.append(Row("most memory", tuple(Figure("MB", sizes, False) if sizes else None for sizes in peaks)))
    return "Cost", rows


def _quality_rows(result: Result) -> tuple[str, list[Row]]:
    qualities = [target.quality for target in result.targets]
    perplexities = tuple(Figure("", (quality.perplexity,), False) if quality else None for quality in qualities)
    divergences = tuple(
        Figure("nats", (quality.divergence,), False) if quality and quality.divergence is not None else None
        for quality in qualities
    )
    rows = [Row("perplexity of a short text", perplexities), Row("KL from the first model", divergences)]
    return "Quality", rows


def _value_row(
    targets: Sequence[TargetResult], title: str, kind: str, streams: int, prompt_tokens: int, name: str
) -> Row:
    cells = [target.cell(kind, streams, prompt_tokens) for target in targets]
    figures = tuple(cell.figure(name) if cell else None for cell in cells)
    return Row(title, figures, _cell_notes(cells), _noisy_marks(cells))


def _percentile_rows(result: Result, which: str, percentiles: Sequence[float]) -> list[Row]:
    rows = []
    for streams in _least_and_most_streams(result):
        cells = [target.cell("decode", streams) for target in result.targets]
        rounds = [cell.times(which) if cell else [] for cell in cells]
        for share in percentiles:
            figures = tuple(Figure.from_histograms("ms", found, share) if found else None for found in rounds)
            title = f"{_format_streams(streams)}, p{100 * share:.0f}"
            rows.append(Row(title, figures, _cell_notes(cells), _noisy_marks(cells)))
    return rows


def _least_and_most_streams(result: Result) -> list[int]:
    return sorted({min(result.plan.streams), max(result.plan.streams)})


def _ratio(target: TargetResult, baseline: TargetResult, key: CellKey, name: str) -> Figure | None:
    cell, baseline_cell = target.cell(*key), baseline.cell(*key)
    return cell.ratio_to(baseline_cell, name) if cell and baseline_cell else None


def _cell_notes(cells: Sequence[CellResult | None]) -> tuple[str, ...]:
    return tuple((cell.problem or _early_end(cell.asked_tokens, cell.got_tokens)) if cell else "" for cell in cells)


def _noisy_marks(cells: Sequence[CellResult | None]) -> tuple[bool, ...]:
    return tuple(cell is not None and cell.is_noisy for cell in cells)


def _target_problems(target: TargetResult) -> list[str]:
    cells = [cell for cell in target.cells if cell.kind == "decode" and cell.samples]
    early_end = _early_end(sum(cell.asked_tokens for cell in cells), sum(cell.got_tokens for cell in cells))
    return [*([early_end] if early_end else []), *sorted({cell.problem for cell in target.cells if cell.problem})]


def _early_end(asked_tokens: int, got_tokens: int) -> str:
    """Return a clause about responses that ended early; empty if none did."""
    if got_tokens >= asked_tokens:
        return ""
    return f"responses ended early, after {got_tokens / asked_tokens:.0%} of the requested tokens"


def _round_remarks(result: Result) -> list[str]:
    plan = result.plan
    samples = [sample for target in result.targets for cell in target.cells for sample in cell.samples]
    noisy = sum(sample.noisy for sample in samples)
    best = "than at its best of the last two minutes"
    return [
        f"Medians of {_format_rounds(result.rounds)}; every round restarts all targets. 19 of 20 values of a second "
        f"run with as many rounds are expected within ±.",
        f"Responses are greedy and {plan.new_tokens} tokens long. Prompts share no prefix and have "
        f"{plan.prompt_tokens[0]:,} tokens unless stated otherwise.",
        f"{noisy} of {len(samples)} samples were disturbed: other processes used more than {plan.noise_bound:g} cores, "
        f"or memory was more than {plan.slow_bound:g} times slower {best}, every time they were measured. They count "
        f"only where all rounds of a measurement were disturbed; such figures are marked with ~."
        if noisy
        else f"No sample was disturbed: other processes used at most {plan.noise_bound:g} cores, and memory was at "
        f"most {plan.slow_bound:g} times slower {best}.",
    ]


def _format_rounds(count: int) -> str:
    return f"{count} interleaved round{'s' * (count != 1)}"


def _format_streams(streams: int) -> str:
    return "alone" if streams == 1 else f"{streams} at a time"


def _format_median(figure: Figure) -> str:
    return f"{format_number(figure.median)} {figure.unit}"


def _format_spread(figure: Figure) -> str:
    if len(figure.values) < 2:
        return ""
    return f" ±{100 * figure.spread:.0f}%" if figure.spread <= 1 else " ±>100%"
