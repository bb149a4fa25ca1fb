"""Errors of settings and plugins, which prevent Cupola from starting."""

from dataclasses import dataclass

from cupola.errors.root import CupolaError


@dataclass(eq=False, kw_only=True)
class SettingsError(CupolaError):
    """A setting is unknown or invalid. An empty `key` means that the file `source` cannot be read."""

    key: str
    source: str
    problem: str

    def __str__(self) -> str:
        if not self.key:
            return f"Settings file {self.source}: {self.problem}. Correct the file or choose another one."
        return f"Setting {self.key!r} in {self.source}: {self.problem}. Correct or remove it there."


@dataclass(eq=False, kw_only=True)
class PluginConflictError(CupolaError):
    """Two plugins contribute the same name."""

    kind: str
    name: str
    first: str
    second: str

    def __str__(self) -> str:
        return (
            f"Two plugins contribute the {self.kind} {self.name!r}: {self.first} and {self.second}. "
            f"Uninstall one of them, or disable it with the setting plugins.disabled."
        )


@dataclass(eq=False, kw_only=True)
class PluginsFailedError(CupolaError):
    """Plugins failed in strict mode."""

    failures: str

    def __str__(self) -> str:
        return f"Plugins failed, and --strict-plugins or plugins.strict is set: {self.failures}"
