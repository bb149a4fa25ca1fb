"""The global options of an invocation, from which commands get their settings, plugins and engine."""

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
    """The global options of one run of the program; `click.pass_obj` passes it to every command.

    Attributes:
        overrides: "section.key=value" strings.
        config: The value of --config.
        verbose: The number of -v options.
    """

    overrides: tuple[str, ...] = ()
    config: Path | None = None
    verbose: int = 0

    def settings(self, *overrides: str) -> "Settings":
        """Read the settings. `overrides` of the command take precedence over `--set`.

        Raises:
            SettingsError: A setting is invalid; the message names its key and source.
        """
        from cupola.settings import load_settings  # noqa: PLC0415

        return load_settings((*self.overrides, *overrides), path=self.config)

    def settings_path(self) -> Path:
        """Return the path of the settings file, which may not exist."""
        from cupola.settings import file_path  # noqa: PLC0415

        return file_path(self.config)

    def agent_command(self) -> list[str]:
        """Return the command that runs the background service in the foreground with the same global options."""
        from cupola.discovery import agent_command  # noqa: PLC0415

        return agent_command(self.overrides, self.config)

    def plugins(self, settings: "Settings | None" = None) -> "PluginSet":
        """Load the plugins, including those that fail."""
        from cupola.plugins import load_plugins  # noqa: PLC0415

        return load_plugins(settings or self.settings())

    def usable_plugins(self, settings: "Settings") -> "PluginSet":
        """Load the plugins, check that they can be used, and warn about failed ones.

        Raises:
            SettingsError, PluginConflictError, PluginsFailedError: They cannot be used.
        """
        from cupola_server.cli.errors import warn_of_failed_plugins  # noqa: PLC0415

        plugins = self.plugins(settings)
        plugins.ensure_usable()
        warn_of_failed_plugins(plugins)
        return plugins

    @asynccontextmanager
    async def engine(
        self, settings: "Settings | None" = None, plugins: "PluginSet | None" = None
    ) -> "AsyncIterator[Engine]":
        """Open an engine in this process.

        Raises:
            SettingsError, PluginConflictError, PluginsFailedError: No engine was opened.
        """
        from cupola.engine import open_engine  # noqa: PLC0415

        settings = settings or self.settings()
        async with open_engine(settings, plugins or self.usable_plugins(settings)) as engine:
            yield engine


def run(work: Callable[[], Awaitable[T]]) -> T:
    """Run asynchronous work. Ctrl+C cancels it, waits for its cleanup, and raises KeyboardInterrupt."""
    import anyio  # noqa: PLC0415

    return anyio.run(work, backend="asyncio")
