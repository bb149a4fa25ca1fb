"""`cupola model tune`: find the weight layout with which a model runs best on this machine."""

from typing import TYPE_CHECKING, Any, Literal

import click
from msgspec import structs

from cupola_server.cli.invocation import Invocation, run
from cupola_server.cli.options import complete_model_name
from cupola_server.cli.ui.tables import Column, Output, format_bytes, output_option, show_json, show_rows

if TYPE_CHECKING:
    from cupola.tuning import Trial, Tuning


def _format_speed(tokens_per_s: float) -> str:
    return f"{tokens_per_s:.0f}" if tokens_per_s else ""


def _format_divergence(nats: float | None) -> str:
    return "" if nats is None else f"{nats:.3f}"


_COLUMNS = (
    Column("layout", "Layout"),
    Column("decode_per_s", "1 answer", _format_speed, right=True),
    Column("batch_per_s", "8 answers", _format_speed, right=True),
    Column("prefill_per_s", "Prompt", _format_speed, right=True),
    Column("divergence", "KL", _format_divergence, right=True),
    Column("size_bytes", "Files", format_bytes, right=True),
    Column("memory_bytes", "Memory", format_bytes, right=True),
    Column("problem", "", long=True),
)


@click.command(short_help="Find the best weight layout for this machine.")
@click.argument("name", metavar="MODEL", required=False, shell_complete=complete_model_name)
@click.option(
    "--for", "goal", type=click.Choice(["latency", "throughput"]), default="latency", show_default=True,
    help="Optimize for one answer at a time, or for eight.",
)  # fmt: skip
@click.option(
    "--max-kl", type=click.FloatRange(min=0), default=0.1, show_default=True, metavar="NATS",
    help="Reject layouts whose predictions diverge more than this from the original model's.",
)  # fmt: skip
@output_option
@click.pass_obj
def tune(
    invocation: Invocation, name: str | None, goal: Literal["latency", "throughput"], max_kl: float, output: Output
) -> None:
    """Measure every weight layout of MODEL on this machine and keep the best.

    Speeds are in tokens per second. Results are best on an otherwise idle machine.
    """
    settings = invocation.settings()

    async def work() -> "Tuning":
        from cupola_server.cli.ui.progress import show_progress  # noqa: PLC0415

        model = name or settings.models.default
        async with invocation.engine(settings) as engine:
            with show_progress(model) as progress:
                return await engine.tune(model, goal, max_divergence=max_kl, progress=progress, on_trial=_show_trial)

    tuning = run(work)
    if output == "json":
        show_json(tuning)
        return
    rows: list[dict[str, Any]] = [structs.asdict(trial) for trial in tuning.trials]
    show_rows(rows, _COLUMNS, output=output, empty="")
    click.echo(f"Best for {goal}: {tuning.winner}. The model's alias now refers to {tuning.kept}.")


def _show_trial(trial: "Trial") -> None:
    click.echo(f"{trial.layout}: {trial.problem or 'measured'}", err=True)
