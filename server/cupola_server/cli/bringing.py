"""`cupola model add` and `cupola model import`: models of one's own."""

from pathlib import Path

import click

from cupola_server.cli.invocation import Invocation, run
from cupola_server.cli.tables import size_text

_path = click.argument("path", type=click.Path(path_type=Path, exists=True))
_name = click.option("--name", default="", help="The model's id, without device; NAME:VERSION sets the version.")
_alias = click.option("--alias", default="", help="What to call it for short; by default its name.")


@click.command("add")
@_path
@_name
@_alias
@click.pass_obj
def add(invocation: Invocation, path: Path, name: str, alias: str) -> None:
    """Make the folder PATH a model; it holds a genai_config.json.

    Its files are shared with the cache where the file system can (hard links), else copied. Folders of Hugging Face's
    cache will do.
    """
    _take_in(invocation, path, name=name, alias=alias, link=True)


@click.command("import", short_help="Make a GGUF file or a copied folder a model.")
@_path
@_name
@_alias
@click.option("--layout", default="", help="How to store the weights of a GGUF: int8-rows, int8-blocks, int4-blocks.")
@click.pass_obj
def import_(invocation: Invocation, path: Path, name: str, alias: str, layout: str) -> None:
    """Convert a GGUF file, or copy a folder with a genai_config.json, into the cache."""
    _take_in(invocation, path, name=name, alias=alias, layout=layout)


def _take_in(
    invocation: Invocation, path: Path, *, name: str, alias: str, layout: str = "", link: bool = False
) -> None:
    from cupola.contracts import ImportOptions  # noqa: PLC0415
    from cupola_server.cli.progress import shown_progress  # noqa: PLC0415

    options = ImportOptions(name=name, alias=alias, layout=layout, link=link)

    async def bring() -> str:
        async with invocation.engine() as engine:
            with shown_progress(alias or name or path.name) as progress:
                cached = await engine.import_model(path, options, progress)
        return (
            f"{cached.info.id} is in the cache ({size_text(cached.size_bytes)}): {cached.path}\n"
            f"Chat with it: cupola model run {cached.info.alias}"
        )

    click.echo(run(bring))
