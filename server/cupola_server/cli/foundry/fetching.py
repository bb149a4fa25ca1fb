"""Downloading for `foundry`: its sentences and its bar."""

import click

from cupola.contracts.models import ModelStatus
from cupola.engine import Engine
from cupola_server.cli.foundry.bar import DownloadBar

TIPS = """\
Tips:
- To find model cache location use: foundry cache location
- To find models already downloaded use: foundry cache ls"""


async def fetched(engine: Engine, model: ModelStatus, *, force: bool = False, tips: bool = True) -> None:
    """Bring a model into the cache, or say that it is there.

    Args:
        engine: Who downloads.
        model: Which one.
        force: Bring it also if it is there; that one stays until the new one is whole.
        tips: Say what to do next.

    Raises:
        DownloadError, CacheError, ModelFormatError: It could not be had.
    """
    model_id = model.info.id
    if model.cached and not force:
        click.echo(was_found(model_id))
        return
    click.echo(f"Downloading {model_id}...")
    bar = DownloadBar()
    try:
        await engine.download(model_id, bar, force=force)
    except BaseException:
        click.echo()
        raise
    bar.finish()
    if tips:
        click.echo(TIPS)


def was_found(model_id: str) -> str:
    """Say that a model needs no download."""
    return f"Model {model_id} was found in the local cache."
