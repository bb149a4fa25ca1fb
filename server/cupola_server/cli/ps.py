"""`cupola ps`: what a running service has loaded."""

from typing import Any

import click

from cupola_server.cli.invocation import Invocation, run
from cupola_server.cli.tables import Column, Output, output_option, show_rows, size_text


def _left(expires_in_s: float | None) -> str:
    return "" if expires_in_s is None else f"{expires_in_s:.0f} s"


def _nodes(nodes: dict[str, int]) -> str:
    """Say who computes how much: "OpenVINO 279, CPU 30"."""
    return ", ".join(f"{name.removesuffix('ExecutionProvider')} {count}" for name, count in nodes.items())


def _fallback(fallback: bool) -> str:
    return "yes" if fallback else ""


_COLUMNS = (
    Column("alias", "Alias"),
    Column("session", "Session"),
    Column("layout", "Layout"),
    Column("provider", "Provider"),
    Column("nodes", "Graph nodes", _nodes),
    Column("fallback", "Fallback", _fallback),
    Column("turns", "Turns", right=True),
    Column("memory_bytes", "Memory", size_text, right=True),
    Column("expires_in_s", "Unloads in", _left, right=True),
    Column("reason", "Why this session", long=True),
)


@click.command()
@click.option("--url", help="Another service than the one in the background, such as that of `cupola serve`.")
@output_option
@click.pass_obj
def ps(invocation: Invocation, url: str | None, output: Output) -> None:
    """Show what a running service has loaded."""
    from cupola.discovery import find_service  # noqa: PLC0415

    settings = invocation.settings()
    agent = None if url else find_service(settings)
    base = url or (agent.url if agent else f"http://{settings.server.host}:{settings.server.port}")
    socket = agent.socket if agent else ""

    async def fetch() -> list[dict[str, Any]]:
        import httpx  # noqa: PLC0415 - other commands need none of it

        transport = httpx.AsyncHTTPTransport(uds=socket or None)
        try:
            async with httpx.AsyncClient(
                transport=transport, base_url="http://localhost" if socket else base, timeout=10, trust_env=False
            ) as client:
                reply = await client.get("/cupola/ps")
                reply.raise_for_status()
                models: list[dict[str, Any]] = reply.json()["models"]
        except (httpx.HTTPError, ValueError, KeyError) as error:
            hint = "Start one with `cupola service start` or `cupola serve`, or name it with --url."
            raise click.ClickException(f"No Cupola service answers at {base} ({error}). {hint}") from None
        return models

    show_rows(run(fetch), _COLUMNS, output=output, empty="Nothing is loaded.")
