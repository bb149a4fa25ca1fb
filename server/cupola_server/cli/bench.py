"""`cupola bench`: measure models, settings, providers and peers side by side; compare and show stored results."""

import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cupola_server.cli.invocation import Invocation, run
from cupola_server.cli.tables import show_json

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from cupola_server.bench.benchmark import BenchmarkOptions
    from cupola_server.bench.models import Launcher
    from cupola_server.bench.results import Result

_FILE = click.Path(path_type=Path, dir_okay=False)


def numbers(value: str) -> tuple[int, ...]:
    """Read whole numbers from 1 with commas between them; returns them sorted."""
    try:
        found = sorted({int(part) for part in value.split(",")})
    except ValueError:
        found = [0]
    if found[0] < 1:
        raise click.BadParameter(f"{value!r} is no list of numbers such as 1,2,4")
    return tuple(found)


class BenchGroup(click.Group):
    """A group whose first command need not be named: `cupola bench smollm2-135m`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Insert the command that runs, unless another one is meant."""
        if not args or args[0] not in self.commands:
            args.insert(0, "run")
        return super().parse_args(ctx, args)


@click.group(cls=BenchGroup)
def bench() -> None:
    """Measure models, settings, providers and peers side by side."""


@bench.command(
    "run",
    epilog="Stored results: cupola bench compare A.json B.json, and cupola bench report A.json --html A.html",
    short_help="Measure MODELs; the command that may be left out.",
)
@click.argument("models", metavar="[MODEL]…", nargs=-1)
@click.option("--provider", "providers", multiple=True, help="Measure the variant for this provider; all for each.")
@click.option("--streams", type=numbers, default="1,2,4,8", show_default=True, help="Answers at a time.")
@click.option("--prompt-tokens", type=numbers, default="64,1024", show_default=True, help="Lengths of prompts.")
@click.option("--new-tokens", type=click.IntRange(min=2), default=64, show_default=True, help="Length of answers.")
@click.option("--threads", type=numbers, help="Numbers of compute threads to compare; default: the setting.")
@click.option(
    "--way",
    "ways",
    type=click.Choice(["in-process", "http"]),
    multiple=True,
    help="Measure the engine in this process or the service; default: both.",
)
@click.option(
    "--peer",
    "peers",
    multiple=True,
    metavar="NAME|URL|FILE",
    help="Compare with a peer: its name, all, a base URL of OpenAI's API, or the path of an adapter.",
)
@click.option(
    "--peer-command",
    "commands",
    multiple=True,
    metavar="COMMAND",
    help="Compare with a server that this starts; {port}, {folder}, {threads}, {streams}, {context} are filled in.",
)
@click.option(
    "--rounds", type=click.IntRange(min=0), default=5, show_default=True, help="Rounds of everything, started anew."
)
@click.option(
    "--budget", type=click.FloatRange(min=0), default=0, metavar="SECONDS", help="Begin no further round then."
)
@click.option(
    "--curve",
    "curves",
    type=click.Choice(["prompts", "streams", "residents"]),
    multiple=True,
    help="Measure as well how cost grows with this.",
)
@click.option(
    "--noise-bound",
    type=click.FloatRange(min=0),
    default=0.1,
    show_default=True,
    metavar="CORES",
    help="What others may use before a sample is taken again, then marked.",
)
@click.option(
    "--slow-bound",
    type=click.FloatRange(min=1),
    default=1.15,
    show_default=True,
    metavar="TIMES",
    help="How much slower than at its best memory may be before a sample waits, is taken again, then marked.",
)
@click.option("--no-quality", is_flag=True, help="Do not read the text that perplexity and divergence come from.")
@click.option("--save", type=_FILE, metavar="FILE.json", help="Store the result; rounds are added if it is there.")
@click.option("--html", type=_FILE, metavar="FILE.html", help="Write a report with charts.")
@click.option(
    "-o", "--output", type=click.Choice(["table", "json", "markdown"]), default="table", show_default=True,
    help="How to show the result.",
)  # fmt: skip
@click.pass_obj
def run_bench(invocation: Invocation, /, save: Path | None, html: Path | None, output: str, **asked: Any) -> None:
    """Measure MODELs (by default the one that models.default names), in process and over HTTP.

    Every round starts everything anew and measures it in turn, so that whatever disturbs hits all alike. Best on a
    machine that does nothing else. What is beyond --noise-bound or --slow-bound is measured again, and marked if that
    does not help. Few rounds tell little: ± says where a second run would end.
    """
    from cupola_server.bench.benchmark import Benchmark  # noqa: PLC0415
    from cupola_server.bench.comparison import merge_results  # noqa: PLC0415
    from cupola_server.bench.results import read_result, write_result  # noqa: PLC0415
    from cupola_server.cli.progress import shown_progress  # noqa: PLC0415

    options = _benchmark_options(invocation, asked)
    earlier = read_result(save) if save and save.exists() else None

    async def work() -> "Result":
        with shown_progress(options.models[0]) as progress:
            first_round = earlier.rounds if earlier else 0
            return await Benchmark(_launcher(invocation), options, progress, first_round).run()

    found = run(lambda: _until_told_to_end(work))
    if found is None:
        raise click.exceptions.Exit(128 + signal.SIGTERM)
    if save:
        found = merge_results(earlier, found, save) if earlier else found
        write_result(found, save)
    _show(found, html, output)


@bench.command("report")
@click.argument("file", type=_FILE)
@click.option("--html", type=_FILE, metavar="FILE.html", help="Write a report with charts.")
@click.option("-o", "--output", type=click.Choice(["table", "json", "markdown"]), default="table", show_default=True)
def report(file: Path, html: Path | None, output: str) -> None:
    """Show a stored result again."""
    from cupola_server.bench.results import read_result  # noqa: PLC0415

    _show(read_result(file), html, output)


@bench.command("compare", short_help="Compare two stored results, also for CI.")
@click.argument("before", type=_FILE)
@click.argument("after", type=_FILE)
@click.option(
    "--threshold", type=click.FloatRange(min=0), metavar="PERCENT",
    help="Fail (exit code 1) if a median is worse by more than this, and outside the spread of BEFORE.",
)  # fmt: skip
def compare(before: Path, after: Path, threshold: float | None) -> None:
    """Print how AFTER compares with BEFORE, two stored results; for CI with --threshold."""
    from cupola_server.bench.comparison import compare_results, find_regressions, print_changes  # noqa: PLC0415
    from cupola_server.bench.results import read_result  # noqa: PLC0415

    changes = compare_results(read_result(before), read_result(after))
    print_changes(changes, threshold)
    if threshold is not None and (regressions := find_regressions(changes, threshold)):
        names = "; ".join(f"{change.target}: {change.what}" for change in regressions)
        raise click.ClickException(
            f"{len(regressions)} of {len(changes)} figures are worse by more than {threshold:g} %: {names}"
        )


async def _until_told_to_end(work: "Callable[[], Awaitable[Result]]") -> "Result | None":
    """Run to the end, or until the system asks this process to end: what was started is ended first. None then."""
    import anyio  # noqa: PLC0415

    found = None

    async def watch(scope: anyio.CancelScope) -> None:
        with anyio.open_signal_receiver(signal.SIGTERM) as signals:
            async for _ in signals:
                scope.cancel()

    async with anyio.create_task_group() as group:
        if sys.platform != "win32":  # asyncio receives no signals there
            group.start_soon(watch, group.cancel_scope)
        found = await work()
        group.cancel_scope.cancel()
    return found


def _benchmark_options(invocation: Invocation, asked: dict[str, Any]) -> "BenchmarkOptions":
    from cupola_server.bench.benchmark import INTERFACES, BenchmarkOptions  # noqa: PLC0415
    from cupola_server.bench.results import Plan  # noqa: PLC0415

    models = asked["models"] or (invocation.settings().models.default,)
    plan = Plan(
        models=models,
        streams=asked["streams"],
        prompt_tokens=asked["prompt_tokens"],
        new_tokens=asked["new_tokens"],
        noise_bound=asked["noise_bound"],
        slow_bound=asked["slow_bound"],
    )
    return BenchmarkOptions(
        models=models,
        plan=plan,
        providers=asked["providers"],
        threads=asked["threads"] or (),
        interfaces=asked["ways"] or INTERFACES,
        peers=asked["peers"],
        commands=asked["commands"],
        rounds=asked["rounds"],
        budget_s=asked["budget"],
        curves=asked["curves"],
        quality=not asked["no_quality"],
    )


def _launcher(invocation: Invocation) -> "Launcher":
    from cupola_server.bench.models import Launcher  # noqa: PLC0415

    command = [sys.executable, "-m", "cupola_server.cli"]
    command += ["--config", str(invocation.config)] if invocation.config else []
    command += [word for override in invocation.overrides for word in ("--set", override)]
    return Launcher(
        lambda *overrides: invocation.engine(invocation.settings(*overrides)),
        command,
        invocation.settings().measurements_path,
    )


def _show(result: "Result", html: Path | None, output: str) -> None:
    from cupola_server.bench.markdown import print_report, render_markdown  # noqa: PLC0415

    if html:
        from cupola_server.bench.page import render_page  # noqa: PLC0415

        html.write_text(render_page(result), "utf-8")
    if output == "json":
        show_json(result)
    elif output == "markdown":
        click.echo(render_markdown(result), nl=False)
    else:
        print_report(result)
