"""What the global options said, and the way from there to settings, plugins and an engine."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from cupola.engine import Engine
    from cupola.plugins import PluginSet
    from cupola.settings import Settings

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Invocation:
    """The global options of one run of the program; `click.pass_obj` hands it to every command.

    Attributes:
        overrides: "section.key=value" strings.
        config: The settings file, if one was named.
        verbose: How often -v was given.
    """

    overrides: tuple[str, ...] = ()
    config: Path | None = None
    verbose: int = 0

    def settings(self, *overrides: str) -> "Settings":
        """Read the settings; a command's own options are overrides that win over `--set`.

        Raises:
            SettingsError: Names the key and where it was set.
        """
        from cupola.settings import load_settings  # noqa: PLC0415

        return load_settings((*self.overrides, *overrides), path=self.config)

    def settings_path(self) -> Path:
        """Return where the settings file is, or would be."""
        from cupola.settings import file_path  # noqa: PLC0415

        return file_path(self.config)

    def agent_command(self) -> list[str]:
        """Say how the background service is run in the foreground, with the same global options."""
        from cupola.discovery import agent_command  # noqa: PLC0415

        return agent_command(self.overrides, self.config)

    def plugins(self, settings: "Settings | None" = None) -> "PluginSet":
        """Discover the plugins, working or not."""
        from cupola.plugins import load_plugins  # noqa: PLC0415

        return load_plugins(settings or self.settings())

    def usable_plugins(self, settings: "Settings") -> "PluginSet":
        """Discover the plugins and check that one can work with them; mentions those that failed.

        Raises:
            SettingsError, PluginConflictError, PluginsFailedError: One cannot.
        """
        from cupola_server.cli.failures import mention_failures  # noqa: PLC0415

        plugins = self.plugins(settings)
        plugins.ensure_usable()
        mention_failures(plugins)
        return plugins

    @asynccontextmanager
    async def engine(
        self, settings: "Settings | None" = None, plugins: "PluginSet | None" = None
    ) -> "AsyncIterator[Engine]":
        """Open an engine in this process.

        Raises:
            SettingsError, PluginConflictError, PluginsFailedError: Nothing was started.
        """
        from cupola.engine import open_engine  # noqa: PLC0415

        settings = settings or self.settings()
        async with open_engine(settings, plugins or self.usable_plugins(settings)) as engine:
            yield engine


def run(work: Callable[[], Awaitable[T]]) -> T:
    """Run asynchronous work to its end. Ctrl+C cancels it, lets it clean up, and raises KeyboardInterrupt."""
    import anyio  # noqa: PLC0415

    return anyio.run(work, backend="asyncio")
