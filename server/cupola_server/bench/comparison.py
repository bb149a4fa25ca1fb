"""Two results of the same benchmark: comparing their figures, for people and for CI, and merging their rounds."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from msgspec import structs
from rich import box
from rich.table import Table

from cupola_server.bench.errors import ResultFileError
from cupola_server.bench.markdown import open_console
from cupola_server.bench.report import build_sections
from cupola_server.bench.results import CellResult, Curve, Result, TargetResult
from cupola_server.bench.statistics import Figure, format_number


@dataclass(frozen=True, slots=True)
class Change:
    """One figure of a target in two results.

    Attributes:
        target: Title of the target.
        what: Titles of the figure's section and row, "Speed: one answer".
        before: The figure in the first result.
        after: The figure in the second result.
    """

    target: str
    what: str
    before: Figure
    after: Figure

    @property
    def ratio(self) -> float:
        """The value after over the value before."""
        return self.after.median / self.before.median if self.before.median else 1.0

    @property
    def within_spread(self) -> bool:
        """Whether the value after lies in the interval of a second run; with one round, whether both are equal."""
        return self.before.low <= self.after.median <= self.before.high

    @property
    def worse_percent(self) -> float:
        """By how many percent it got worse; negative if it got better, 0 if neither direction is better."""
        if self.before.more_is_better is None or not self.ratio:
            return 0.0
        return 100 * ((1 / self.ratio if self.before.more_is_better else self.ratio) - 1)


def compare_results(before: Result, after: Result) -> list[Change]:
    """Return every figure that both results have for targets of the same title."""
    firsts, seconds = _figures(before), _figures(after)
    return [Change(*key, first, seconds[key]) for key, first in firsts.items() if key in seconds]


def find_regressions(changes: Sequence[Change], threshold_percent: float) -> list[Change]:
    """Return the changes that are worse by more than the threshold and outside the interval of a second run."""
    return [change for change in changes if change.worse_percent > threshold_percent and not change.within_spread]


def print_changes(changes: Sequence[Change], threshold_percent: float | None) -> None:
    """Print a table of all changes to standard output; regressions are marked if there is a threshold."""
    table = Table("target", "", box=box.SIMPLE_HEAD, pad_edge=False)
    for title in ("before", "after", "after / before"):
        table.add_column(title, justify="right")
    table.add_column("")
    regressions = set() if threshold_percent is None else set(map(id, find_regressions(changes, threshold_percent)))
    for change in changes:
        before, after = (
            f"{format_number(figure.median)} {change.before.unit}".rstrip() for figure in (change.before, change.after)
        )
        verdict = "worse" if id(change) in regressions else "within the spread" if change.within_spread else ""
        table.add_row(change.target, change.what, before, after, f"{change.ratio:.3f}", verdict)
    console = open_console()
    console.print(table)
    inside = sum(change.within_spread for change in changes)
    console.print(f"{inside} of {len(changes)} medians lie within the spread of the rounds before.")


def merge_results(first: Result, second: Result, path: Path) -> Result:
    """Append the rounds of a second run to those of the first.

    Args:
        first: Result of the first run.
        second: Result of the second run.
        path: File of the first result, for errors.

    Raises:
        ResultFileError: The runs differ in their plan, machine or models.
    """
    _ensure_mergeable(first, second, path)
    targets = [_merge_targets(target, second.target(target.name)) for target in first.targets]
    known = {target.name for target in targets}
    targets += [target for target in second.targets if target.name not in known]
    return structs.replace(
        first,
        targets=tuple(targets),
        skipped=tuple(skipped for skipped in first.skipped if second.target(skipped.name) is None),
        curves=(*[curve for curve in first.curves if not _has_curve(second.curves, curve)], *second.curves),
        pieces=(*first.pieces, *second.pieces),
    )


def _figures(result: Result) -> dict[tuple[str, str], Figure]:
    titles = [target.title for target in result.targets]
    figures: dict[tuple[str, str], Figure] = {}
    for section in build_sections(result):
        for row in section.rows:
            what = f"{section.title}: {row.title}"
            figures |= {(title, what): figure for title, figure in zip(titles, row.figures, strict=True) if figure}
    return figures


def _ensure_mergeable(first: Result, second: Result, path: Path) -> None:
    same_machine = (first.machine.processor, first.machine.cores) == (second.machine.processor, second.machine.cores)
    what = "plan" if first.plan != second.plan else "" if same_machine else "machine"
    for target in second.targets:
        other = first.target(target.name)
        if other and other.model_digest != target.model_digest:
            what = f"model under the name {target.name!r}"
    if what:
        detail = f"was measured with a different {what}. Save this run to another file"
        raise ResultFileError(path=str(path), detail=detail)


def _merge_targets(first: TargetResult, second: TargetResult | None) -> TargetResult:
    if second is None:
        return first
    others = {cell.key: cell for cell in second.cells}
    return structs.replace(
        first,
        load_s=first.load_s + second.load_s,
        peak_bytes=first.peak_bytes + second.peak_bytes,
        cells=tuple(_merge_cells(cell, others.get(cell.key)) for cell in first.cells),
        quality=second.quality or first.quality,
    )


def _merge_cells(first: CellResult, second: CellResult | None) -> CellResult:
    if second is None:
        return first
    return structs.replace(
        first,
        samples=first.samples + second.samples,
        asked_tokens=first.asked_tokens + second.asked_tokens,
        got_tokens=first.got_tokens + second.got_tokens,
        problem=first.problem or second.problem,
    )


def _has_curve(curves: Sequence[Curve], curve: Curve) -> bool:
    return any((other.over, other.what, other.target) == (curve.over, curve.what, curve.target) for other in curves)
