"""The words and rows that tables, Markdown and HTML share."""

from collections.abc import Sequence
from dataclasses import dataclass

from cupola_server.bench.figures import Figure
from cupola_server.bench.results import CellResult, Machine, Result, TargetResult

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
        notes: Why there is none, or what must be known, in the same order.
        noisy: How many of its rounds others disturbed, in the same order.
    """

    title: str
    figures: tuple[Figure | None, ...]
    notes: tuple[str, ...]
    noisy: tuple[int, ...]

    @property
    def unit(self) -> str:
        """The unit of its figures."""
        return next(figure.unit for figure in self.figures if figure)


def sections_of(result: Result) -> list[Section]:
    """Return what at least one target has, the most asked for first."""
    sections = [_speed(result), _waiting(result), _pauses(result), _cost(result), _quality(result)]
    kept = [(title, tuple(row for row in rows if any(row.figures))) for title, rows in sections]
    return [Section(title, rows) for title, rows in kept if rows]


def _speed(result: Result) -> tuple[str, list[Row]]:
    plan, targets = result.plan, result.targets
    short = plan.prompt_tokens[0]
    rows = [
        _row(targets, "alone" if streams == 1 else f"{streams} at a time", "decode", streams, short, _name(streams))
        for streams in plan.streams
    ]
    rows += [
        _row(targets, f"prompt of {tokens:,}", "prefill", 1, tokens, "prefill_per_s") for tokens in plan.prompt_tokens
    ]
    rows += [
        _row(targets, f"answers of one token, {streams} at a time", "requests", streams, short, "requests_per_s")
        for streams in sorted({1, max(plan.streams)})
    ]
    return "Speed", rows


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
    rounds = max((len(cell.samples) for target in result.targets for cell in target.cells), default=0)
    samples = [sample for target in result.targets for cell in target.cells for sample in cell.samples]
    noisy = sum(sample.noisy for sample in samples)
    found = [
        f"Medians of {rounds} interleaved round{'s' if rounds != 1 else ''}, ± is the farthest one; "
        f"answers are greedy, {result.plan.new_tokens} tokens long, to prompts of {result.plan.prompt_tokens[0]:,} "
        f"tokens that share no beginning.",
        f"While {noisy} of {len(samples)} samples were taken others used more than {result.plan.noise_bound:g} cores; "
        f"what they disturbed is marked ~."
        if noisy
        else f"Others never used more than {result.plan.noise_bound:g} cores meanwhile.",
    ]
    if result.machine.energy:
        found.append(f"Energy was not measured: {result.machine.energy}.")
    return found


def _name(streams: int) -> str:
    return "decode_per_s" if streams == 1 else "total_per_s"


def _at(streams: int) -> str:
    return "alone" if streams == 1 else f"{streams} at a time"


def _plain(title: str, figures: Sequence[Figure | None]) -> Row:
    return Row(title, tuple(figures), tuple("" for _ in figures), tuple(0 for _ in figures))


def _row(targets: Sequence[TargetResult], title: str, kind: str, streams: int, prompt_tokens: int, name: str) -> Row:
    cells = [target.cell(kind, streams, prompt_tokens) for target in targets]
    return Row(
        title,
        tuple(cell.figure(name) if cell else None for cell in cells),
        tuple(note_of(cell) for cell in cells),
        tuple(sum(sample.noisy for sample in cell.samples) if cell else 0 for cell in cells),
    )


def _times(cells: Sequence[CellResult | None], title: str, which: str, share: float) -> Row:
    histograms = [getattr(cell, which) if cell else None for cell in cells]
    figures = tuple(
        Figure("ms", (found.quantile_ms(share),), False) if found and found.total else None for found in histograms
    )
    noisy = tuple(sum(sample.noisy for sample in cell.samples) if cell else 0 for cell in cells)
    return Row(title, figures, tuple(note_of(cell) for cell in cells), noisy)
