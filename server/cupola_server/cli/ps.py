"""`cupola ps`: the models that a running service has loaded."""

from typing import Any

import click

from cupola_server.cli.invocation import Invocation, run
from cupola_server.cli.ui.tables import Column, Output, format_bytes, output_option, show_rows


def _format_expiry(expires_in_s: float | None) -> str:
    return "" if expires_in_s is None else f"{expires_in_s:.0f} s"


def _format_nodes(nodes: dict[str, int]) -> str:
    """Format the graph nodes of each execution provider as "OpenVINO 279, CPU 30"."""
    return ", ".join(f"{name.removesuffix('ExecutionProvider')} {count}" for name, count in nodes.items())


def _format_fallback(fallback: bool) -> str:
    return "yes" if fallback else ""


_COLUMNS = (
    Column("alias", "Alias"),
    Column("session", "Session"),
    Column("layout", "Layout"),
    Column("provider", "Provider"),
    Column("nodes", "Graph nodes", _format_nodes),
    Column("fallback", "Fallback", _format_fallback),
    Column("turns", "Turns", right=True),
    Column("memory_bytes", "Memory", format_bytes, right=True),
    Column("expires_in_s", "Unloads in", _format_expiry, right=True),
    Column("reason", "Why this session", long=True),
)


@click.command()
@click.option("--url", help="URL of another service, such as one started with `cupola serve`.")
@output_option
@click.pass_obj
def ps(invocation: Invocation, url: str | None, output: Output) -> None:
    """List the models that a running service has loaded."""
    from cupola.discovery import find_service  # noqa: PLC0415

    settings = invocation.settings()
    info = None if url else find_service(settings)
    base = url or (info.url if info else f"http://{settings.server.host}:{settings.server.port}")
    socket = info.socket if info else ""

    async def fetch() -> list[dict[str, Any]]:
        import httpx  # noqa: PLC0415 - slow to import

        transport = httpx.AsyncHTTPTransport(uds=socket or None)
        try:
            async with httpx.AsyncClient(
                transport=transport, base_url="http://localhost" if socket else base, timeout=10, trust_env=False
            ) as client:
                reply = await client.get("/cupola/ps")
                reply.raise_for_status()
                models: list[dict[str, Any]] = reply.json()["models"]
        except (httpx.HTTPError, ValueError, KeyError) as error:
            hint = "Start one with `cupola service start` or `cupola serve`, or give its address with --url."
            raise click.ClickException(f"No Cupola service answers at {base} ({error}). {hint}") from None
        return models

    show_rows(run(fetch), _COLUMNS, output=output, empty="No models are loaded.")
