"""`cupola bench`: benchmark models, settings, providers and peers; compare and show stored results."""

import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cupola_server.cli.invocation import Invocation, run
from cupola_server.cli.ui.tables import show_json

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from cupola_server.bench.benchmark import BenchmarkOptions
    from cupola_server.bench.models import Launcher
    from cupola_server.bench.results import Result

_FILE = click.Path(path_type=Path, dir_okay=False)

_html_option = click.option("--html", type=_FILE, metavar="FILE.html", help="Write a report with charts.")
_output_option = click.option(
    "-o",
    "--output",
    type=click.Choice(["table", "json", "markdown"]),
    default="table",
    show_default=True,
    help="How to show the result.",
)


def parse_numbers(value: str) -> tuple[int, ...]:
    """Parse positive integers separated by commas; returns them sorted."""
    try:
        values = sorted({int(part) for part in value.split(",")})
    except ValueError:
        values = [0]
    if values[0] < 1:
        raise click.BadParameter(f"{value!r} is not a list of positive integers such as 1,2,4.")
    return tuple(values)


class BenchGroup(click.Group):
    """A group with the default command `run`: `cupola bench smollm2-135m`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Insert `run` unless the first argument is a command."""
        if not args or args[0] not in self.commands:
            args.insert(0, "run")
        return super().parse_args(ctx, args)


@click.group(cls=BenchGroup)
def bench() -> None:
    """Benchmark models, settings, providers and peers."""


@bench.command(
    "run",
    epilog="For stored results: cupola bench compare A.json B.json, cupola bench report A.json --html A.html",
    short_help="Benchmark models (the default command).",
)
@click.argument("models", metavar="[MODEL]…", nargs=-1)
@click.option(
    "--provider", "providers", multiple=True, help="Measure the variant for this provider; 'all' for every provider."
)
@click.option(
    "--streams",
    type=parse_numbers,
    metavar="NUMBERS",
    default="1,2,4,8",
    show_default=True,
    help="Numbers of concurrent answers.",
)
@click.option(
    "--prompt-tokens",
    type=parse_numbers,
    metavar="NUMBERS",
    default="64,1024",
    show_default=True,
    help="Prompt lengths in tokens.",
)
@click.option(
    "--new-tokens", type=click.IntRange(min=2), default=64, show_default=True, help="Answer length in tokens."
)
@click.option(
    "--threads",
    type=parse_numbers,
    metavar="NUMBERS",
    help="Numbers of compute threads to compare; default: the setting.",
)
@click.option(
    "--way",
    "ways",
    type=click.Choice(["in-process", "http"]),
    multiple=True,
    help="Measure the engine in this process or over HTTP; default: both.",
)
@click.option(
    "--peer",
    "peers",
    multiple=True,
    metavar="NAME|URL|FILE",
    help="Compare with a peer: its name, 'all', the base URL of an OpenAI-compatible API, or the path of an adapter.",
)
@click.option(
    "--peer-command",
    "commands",
    multiple=True,
    metavar="COMMAND",
    help="Compare with the server that COMMAND starts; {port}, {folder}, {threads}, {streams}, {context} are replaced.",
)
@click.option(
    "--rounds",
    type=click.IntRange(min=0),
    default=5,
    show_default=True,
    help="Measurement rounds. Each starts everything again.",
)
@click.option(
    "--budget", type=click.FloatRange(min=0), default=0, metavar="SECONDS", help="Start no new round after this time."
)
@click.option(
    "--curve",
    "curves",
    type=click.Choice(["prompts", "streams", "residents"]),
    multiple=True,
    help="Also measure how the cost grows with this.",
)
@click.option(
    "--noise-bound",
    type=click.FloatRange(min=0),
    default=0.1,
    show_default=True,
    metavar="CORES",
    help="CPU use of other processes above which a sample is repeated, then marked.",
)
@click.option(
    "--slow-bound",
    type=click.FloatRange(min=1),
    default=1.15,
    show_default=True,
    metavar="TIMES",
    help="Slowdown of memory above which a sample waits, is repeated, then marked.",
)
@click.option("--no-quality", is_flag=True, help="Do not measure perplexity and divergence.")
@click.option("--save", type=_FILE, metavar="FILE.json", help="Save the result; add the rounds to an existing file.")
@_html_option
@_output_option
@click.pass_obj
def run_bench(invocation: Invocation, /, save: Path | None, html: Path | None, output: str, **arguments: Any) -> None:
    """Benchmark MODELs (default: the setting models.default) in process and over HTTP.

    Each round starts all targets again and measures them in turn, so that disturbances affect all of them equally. Run
    it on an otherwise idle machine. Samples beyond --noise-bound or --slow-bound are repeated, and marked if they
    remain beyond it. Use enough rounds: ± is the range expected of a second run.
    """
    from cupola_server.bench.benchmark import Benchmark  # noqa: PLC0415
    from cupola_server.bench.comparison import merge_results  # noqa: PLC0415
    from cupola_server.bench.results import read_result, write_result  # noqa: PLC0415
    from cupola_server.cli.ui.progress import show_progress  # noqa: PLC0415

    options = _benchmark_options(invocation, arguments)
    earlier = read_result(save) if save and save.exists() else None

    async def work() -> "Result":
        with show_progress(options.models[0]) as progress:
            first_round = earlier.rounds if earlier else 0
            return await Benchmark(_launcher(invocation), options, progress, first_round).run()

    result = run(lambda: _run_until_sigterm(work))
    if result is None:
        raise click.exceptions.Exit(128 + signal.SIGTERM)
    if save:
        result = merge_results(earlier, result, save) if earlier else result
        write_result(result, save)
    _show(result, html, output)


@bench.command("report")
@click.argument("file", type=_FILE)
@_html_option
@_output_option
def report(file: Path, html: Path | None, output: str) -> None:
    """Show a stored result."""
    from cupola_server.bench.results import read_result  # noqa: PLC0415

    _show(read_result(file), html, output)


@bench.command("compare", short_help="Compare two stored results.")
@click.argument("before", type=_FILE)
@click.argument("after", type=_FILE)
@click.option(
    "--threshold", type=click.FloatRange(min=0), metavar="PERCENT",
    help="Fail (exit code 1) if a median is worse by more than this and outside the spread of BEFORE.",
)  # fmt: skip
def compare(before: Path, after: Path, threshold: float | None) -> None:
    """Compare the stored results BEFORE and AFTER. Use --threshold in CI."""
    from cupola_server.bench.comparison import compare_results, find_regressions, print_changes  # noqa: PLC0415
    from cupola_server.bench.results import read_result  # noqa: PLC0415

    changes = compare_results(read_result(before), read_result(after))
    print_changes(changes, threshold)
    if threshold is not None and (regressions := find_regressions(changes, threshold)):
        names = "; ".join(f"{change.target}: {change.what}" for change in regressions)
        raise click.ClickException(
            f"{len(regressions)} of {len(changes)} metrics are worse by more than {threshold:g} %: {names}"
        )


async def _run_until_sigterm(work: "Callable[[], Awaitable[Result]]") -> "Result | None":
    """Run to the end. SIGTERM cancels the work, which ends what it started, and returns None."""
    import anyio  # noqa: PLC0415

    result = None

    async def watch(scope: anyio.CancelScope) -> None:
        with anyio.open_signal_receiver(signal.SIGTERM) as signals:
            async for _ in signals:
                scope.cancel()

    async with anyio.create_task_group() as group:
        if sys.platform != "win32":  # asyncio receives no signals there
            group.start_soon(watch, group.cancel_scope)
        result = await work()
        group.cancel_scope.cancel()
    return result


def _benchmark_options(invocation: Invocation, arguments: dict[str, Any]) -> "BenchmarkOptions":
    from cupola_server.bench.benchmark import INTERFACES, BenchmarkOptions  # noqa: PLC0415
    from cupola_server.bench.results import Plan  # noqa: PLC0415

    models = arguments["models"] or (invocation.settings().models.default,)
    plan = Plan(
        models=models,
        streams=arguments["streams"],
        prompt_tokens=arguments["prompt_tokens"],
        new_tokens=arguments["new_tokens"],
        noise_bound=arguments["noise_bound"],
        slow_bound=arguments["slow_bound"],
    )
    return BenchmarkOptions(
        models=models,
        plan=plan,
        providers=arguments["providers"],
        threads=arguments["threads"] or (),
        interfaces=arguments["ways"] or INTERFACES,
        peers=arguments["peers"],
        commands=arguments["commands"],
        rounds=arguments["rounds"],
        budget_s=arguments["budget"],
        curves=arguments["curves"],
        quality=not arguments["no_quality"],
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
