"""Settings from a TOML file, `CUPOLA_*` environment variables and flags; each overrides the one before it.

The file is `config.toml` in the platform's configuration folder, or the file that `CUPOLA_CONFIG` names. The setting
`key` of `[section]` is `CUPOLA_SECTION_KEY` in the environment and `--set section.key=value` on the command line.
"""

from cupola.settings.sections import (
    AzureSettings,
    CacheSettings,
    DownloadSettings,
    ExternalSettings,
    FoundryCatalogSettings,
    MachineSettings,
    ModelSettings,
    PluginSettings,
    ResponseSettings,
    ServerSettings,
    ServiceSettings,
    WorkerSettings,
)
from cupola.settings.settings import Settings
from cupola.settings.sources import CONFIG_VARIABLE, default_path, file_path, load_settings

__all__ = [
    "CONFIG_VARIABLE",
    "AzureSettings",
    "CacheSettings",
    "DownloadSettings",
    "ExternalSettings",
    "FoundryCatalogSettings",
    "MachineSettings",
    "ModelSettings",
    "PluginSettings",
    "ResponseSettings",
    "ServerSettings",
    "ServiceSettings",
    "Settings",
    "WorkerSettings",
    "default_path",
    "file_path",
    "load_settings",
]
