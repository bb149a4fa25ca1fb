"""Two stored results side by side, for people and for CI."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich import box
from rich.table import Table

from cupola_server.bench.markdown import wide_console
from cupola_server.bench.report import sections_of
from cupola_server.bench.results import Result
from cupola_server.bench.statistics import Figure, number


@dataclass(frozen=True, slots=True)
class Change:
    """One figure, before and after."""

    target: str
    what: str
    before: Figure
    after: Figure

    @property
    def times(self) -> float:
        """After over before."""
        return self.after.median / self.before.median if self.before.median else 1.0

    @property
    def within_spread(self) -> bool:
        """Whether the value after lies where it was expected; for what was found once, whether it is the same."""
        return self.before.low <= self.after.median <= self.before.high

    @property
    def worse_percent(self) -> float:
        """By how much it is worse; negative for better, 0 where neither way is good."""
        if self.before.more_is_better is None or not self.times:
            return 0.0
        return 100 * ((1 / self.times if self.before.more_is_better else self.times) - 1)


def changes(before: Result, after: Result) -> list[Change]:
    """Return every figure that both have, of targets of the same name."""
    firsts, seconds = _figures(before), _figures(after)
    return [Change(*key, first, seconds[key]) for key, first in firsts.items() if key in seconds]


def worse(found: Sequence[Change], threshold_percent: float) -> list[Change]:
    """Return what got worse by more than the threshold, and is not where the rounds before let one expect it."""
    return [one for one in found if one.worse_percent > threshold_percent and not one.within_spread]


def show(found: Sequence[Change], threshold_percent: float | None) -> None:
    """Print the ratios."""
    table = Table("target", "", box=box.SIMPLE_HEAD, pad_edge=False)
    for title in ("before", "after", "after / before"):
        table.add_column(title, justify="right")
    table.add_column("")
    failed = set() if threshold_percent is None else {id(one) for one in worse(found, threshold_percent)}
    for one in found:
        verdict = "worse" if id(one) in failed else "within the spread" if one.within_spread else ""
        unit = f" {one.before.unit}".rstrip()
        table.add_row(
            one.target, one.what, f"{number(one.before.median)}{unit}", f"{number(one.after.median)}{unit}",
            f"{one.times:.3f}", verdict,
        )  # fmt: skip
    console = wide_console()
    console.print(table)
    inside = sum(one.within_spread for one in found)
    console.print(f"{inside} of {len(found)} medians lie within the spread of the rounds before.")


def _figures(result: Result) -> dict[tuple[str, str], Figure]:
    titles = [target.title for target in result.targets]
    found: dict[tuple[str, str], Figure] = {}
    for section in sections_of(result):
        for row in section.rows:
            what = f"{section.title}: {row.title}"
            found |= {(title, what): figure for title, figure in zip(titles, row.figures, strict=True) if figure}
    return found
