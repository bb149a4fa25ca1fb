"""Names of models for a shell that completes a word."""

import logging

import click

from cupola_server.cli.invocation import Invocation, run


def model_names(_: click.Context, __: click.Parameter, incomplete: str) -> list[str]:
    """Offer aliases, and ids once something was typed. Nothing that goes wrong is told: a shell shows only names."""
    from cupola.errors import CupolaError  # noqa: PLC0415

    invocation, start = Invocation(), incomplete.lower()
    logging.disable()

    async def names() -> dict[str, None]:
        settings = invocation.settings("azure.timeout_s=1")  # somebody waits; the remembered listing will do
        async with invocation.engine(settings, invocation.plugins(settings)) as engine:
            infos = [each.info for each in await engine.models()]
        return dict.fromkeys([info.alias for info in infos] + [info.id for info in infos if start])

    try:
        return [name for name in run(names) if name.lower().startswith(start)]
    except CupolaError:
        return []
