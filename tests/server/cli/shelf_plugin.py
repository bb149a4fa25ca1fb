"""A plugin with models that need no download, for `echo_plugin`, and three commands, one with a built-in name."""

import click

from cupola.catalog import CatalogSource
from cupola.errors import DownloadError
from cupola.frontend import ModelInfo, ProgressEvent, hookimpl


class Shelf(CatalogSource):
    name = "shelf"

    async def models(self):
        return [
            ModelInfo(
                id=f"{alias}-generic-cpu:1",
                alias=alias,
                source=self.name,
                publisher="shelf",
                provider="EchoExecutionProvider",
                size_bytes=2_000_000,
                context_length=4096,
                license="MIT",
            )
            for alias in ("echo", "unreachable")
        ]

    async def files(self, model):
        return []

    async def fetch(self, model, staging, downloader, progress):
        if model.alias == "unreachable":
            raise DownloadError(model=model.alias, detail="the shelf is too high")
        progress(ProgressEvent("download", 2_000_000, 2_000_000))
        (staging.path / "genai_config.json").write_text("{}")


@click.command()
@click.argument("name")
def greet(name):
    """Greet somebody."""
    click.echo(f"Hello {name}")


@click.command()
def model():
    """Use the name of a built-in command."""
    click.echo("usurped")


class Foreign:
    """A command that was not made with click."""

    name = "foreign"

    def main(self, args, prog_name):
        click.echo(f"{prog_name}: {args}")


@hookimpl
def catalog_sources(settings):
    return [Shelf()]


@hookimpl
def cli_commands():
    return [greet, model, Foreign()]
