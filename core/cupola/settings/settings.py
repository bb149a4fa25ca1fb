"""All settings in one Struct, and the folders that follow from them."""

from pathlib import Path
from typing import Any

import msgspec
import platformdirs
from msgspec import Struct

from cupola.settings.sections import (
    AzureSettings,
    CacheSettings,
    DownloadSettings,
    ExternalSettings,
    MachineSettings,
    ModelSettings,
    Name,
    PluginSettings,
    ResponseSettings,
    ServerSettings,
    ServiceSettings,
    WorkerSettings,
)


class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All settings, one field per table of the settings file.

    Attributes:
        server: Addresses, keys and limits of the HTTP server.
        service: The background service and its log files.
        cache: The folder of cached models.
        downloads: Connections, chunk size and retries of downloads.
        models: Loading, unloading and placement of models.
        worker: Time limits of worker processes.
        machine: The folder of environments, probe results and measurements.
        responses: The stored responses of the Responses API.
        plugins: Plugins to disable, and how failures are handled.
        azure: Azure AI Foundry's catalog, and private catalogs.
        external: Services with external models, by name.
        providers: Options of execution providers by alias. Each provider validates its own table.
    """

    server: ServerSettings = ServerSettings()
    service: ServiceSettings = ServiceSettings()
    cache: CacheSettings = CacheSettings()
    downloads: DownloadSettings = DownloadSettings()
    models: ModelSettings = ModelSettings()
    worker: WorkerSettings = WorkerSettings()
    machine: MachineSettings = MachineSettings()
    responses: ResponseSettings = ResponseSettings()
    plugins: PluginSettings = PluginSettings()
    azure: AzureSettings = AzureSettings()
    external: dict[Name, ExternalSettings] = {}
    providers: dict[str, dict[str, Any]] = {}

    def for_workers(self) -> "Settings":
        """Return the settings without keys and addresses, which workers do not need."""
        return msgspec.structs.replace(self, server=ServerSettings(), external={})

    @property
    def cache_dir(self) -> Path:
        """The folder of cached models, as an absolute path."""
        if self.cache.dir:
            return Path(self.cache.dir).expanduser().absolute()
        return Path(platformdirs.user_cache_dir("cupola", appauthor=False)) / "models"

    @property
    def machine_dir(self) -> Path:
        """The folder of environments, probe results and measurements, as an absolute path."""
        if self.machine.dir:
            return Path(self.machine.dir).expanduser().absolute()
        return Path(platformdirs.user_data_dir("cupola", appauthor=False)) / "machine"

    @property
    def environments_dir(self) -> Path:
        """The folder of the execution providers' environments."""
        return self.machine_dir / "environments"

    @property
    def measurements_path(self) -> Path:
        """The file of measurements; see `cupola.measurements`."""
        return self.machine_dir / "measurements.json"

    @property
    def service_dir(self) -> Path:
        """The folder of the background service's files, as an absolute path."""
        if self.service.dir:
            return Path(self.service.dir).expanduser().absolute()
        return Path(platformdirs.user_data_dir("cupola", appauthor=False)) / "service"

    @property
    def log_dir(self) -> Path:
        """The folder of the background service's logs, as an absolute path."""
        if self.service.log_dir:
            return Path(self.service.log_dir).expanduser().absolute()
        return Path(platformdirs.user_log_dir("cupola", appauthor=False))

    @property
    def responses_dir(self) -> Path:
        """The folder of stored responses, as an absolute path."""
        if self.responses.dir:
            return Path(self.responses.dir).expanduser().absolute()
        return Path(platformdirs.user_data_dir("cupola", appauthor=False)) / "responses"
