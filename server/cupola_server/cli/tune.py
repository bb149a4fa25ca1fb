"""`cupola model tune`: find the layout in which a model runs best on this machine."""

from typing import TYPE_CHECKING, Any, Literal

import click
from msgspec import structs

from cupola_server.cli.completing import model_names
from cupola_server.cli.invocation import Invocation, run
from cupola_server.cli.tables import Column, Output, output_option, show_json, show_rows, size_text

if TYPE_CHECKING:
    from cupola.tuning import Trial, Tuning


def _speed(value: float) -> str:
    return f"{value:.0f}" if value else ""


def _divergence(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


_COLUMNS = (
    Column("layout", "Layout"),
    Column("decode_per_s", "1 answer", _speed, right=True),
    Column("batch_per_s", "8 answers", _speed, right=True),
    Column("prefill_per_s", "Prompt", _speed, right=True),
    Column("divergence", "KL", _divergence, right=True),
    Column("size_bytes", "Files", size_text, right=True),
    Column("memory_bytes", "Memory", size_text, right=True),
    Column("problem", "", long=True),
)


@click.command(short_help="Find the layout of weights that is best here.")
@click.argument("name", metavar="MODEL", required=False, shell_complete=model_names)
@click.option(
    "--for", "goal", type=click.Choice(["latency", "throughput"]), default="latency", show_default=True,
    help="Be best at one answer, or at eight together.",
)  # fmt: skip
@click.option(
    "--max-kl", type=click.FloatRange(min=0), default=0.1, show_default=True, metavar="NATS",
    help="A layout whose predictions differ more from the model's as it came cannot win.",
)  # fmt: skip
@output_option
@click.pass_obj
def tune(
    invocation: Invocation, name: str | None, goal: Literal["latency", "throughput"], max_kl: float, output: Output
) -> None:
    """Try every layout of MODEL's weights on this machine and keep the best.

    Speeds are in tokens per second. Best on a machine that does nothing else meanwhile.
    """
    settings = invocation.settings()

    async def work() -> "Tuning":
        from cupola_server.cli.progress import shown_progress  # noqa: PLC0415

        model = name or settings.models.default
        async with invocation.engine(settings) as engine:
            with shown_progress(model) as progress:
                return await engine.tune(model, goal, max_divergence=max_kl, progress=progress, on_trial=_told)

    found = run(work)
    if output == "json":
        show_json(found)
        return
    rows: list[dict[str, Any]] = [structs.asdict(trial) for trial in found.trials]
    show_rows(rows, _COLUMNS, output=output, empty="")
    click.echo(f"Best for {goal}: {found.winner}. It is {found.kept}, and what its alias means from now on.")


def _told(trial: "Trial") -> None:
    """Say that a layout was tried, for whoever waits."""
    click.echo(f"{trial.layout}: {trial.problem or 'measured'}", err=True)
