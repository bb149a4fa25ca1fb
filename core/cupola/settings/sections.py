"""The tables of the settings file. `Settings` holds one field per table."""

from typing import Annotated, Literal

from msgspec import Meta, Struct, field

Seconds = Annotated[float, Meta(ge=0)]
Count = Annotated[int, Meta(ge=1)]
Name = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9_-]*$")]


class Section(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The base of all tables: frozen, and unknown keys are errors."""


class ServerSettings(Section, frozen=True, kw_only=True):
    """The HTTP server: addresses, access, and timeouts of clients.

    Attributes:
        host: Address to listen on. Addresses other than loopback require API keys.
        port: Port to listen on; 0 picks a free one.
        uds: Path of a Unix domain socket to listen on instead of an address, accessible to this user only.
        drain_timeout_s: How long running answers may take to finish when the service stops.
        api_keys: If any are set, every request must send one as "Authorization: Bearer KEY".
        api_key_file: A file with more keys, one per line; lines that start with # are ignored.
        allowed_hosts: Host names that clients may use besides the server's own; "*" allows any.
        cors_origins: Origins of web pages that may use the service, such as "https://app.example"; "*" allows any if
            API keys are set.
        max_body_mb: Maximum size of a request body, in MiB (2^20 bytes).
        body_timeout_s: Time limit for receiving a body, plus one second per 10 kB.
        idle_timeout_s: Time limit for receiving a complete request head, also between requests of one connection.
    """

    host: str = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535)] = 5272
    uds: str = ""
    drain_timeout_s: Seconds = 10.0
    api_keys: tuple[str, ...] = ()
    api_key_file: str = ""
    allowed_hosts: tuple[str, ...] = ()
    cors_origins: tuple[str, ...] = ()
    max_body_mb: Annotated[int, Meta(ge=1, le=1024)] = 16
    body_timeout_s: Annotated[float, Meta(gt=0)] = 30.0
    idle_timeout_s: Annotated[float, Meta(gt=0)] = 75.0

    def __repr__(self) -> str:
        """Leave out the keys, so that they never appear in logs or tracebacks."""
        shown = {name: getattr(self, name) for name in self.__struct_fields__ if name != "api_keys"}
        keys = f"({len(self.api_keys)} hidden)"
        return f"ServerSettings({', '.join(f'{name}={value!r}' for name, value in shown.items())}, api_keys={keys})"


class ServiceSettings(Section, frozen=True, kw_only=True):
    """The background service, one per user and cache. `[server]` sets access and timeouts.

    Attributes:
        port: Port to listen on; 0 picks a free one.
        dir: Folder of the files that announce the service's addresses. Empty means `service` in the platform's data
            folder.
        log_dir: Folder of the logs. Empty means the platform's log folder.
        log_level: The lowest level that is logged.
        log_size_mb: Size at which the log file is rotated, in MB (10^6 bytes).
        log_files: How many rotated files to keep besides the current one.
        start_timeout_s: Time limit for the service to become ready.
    """

    port: Annotated[int, Meta(ge=0, le=65535)] = 0
    dir: str = ""
    log_dir: str = ""
    log_level: Literal["debug", "info", "warning", "error", "critical"] = "info"
    log_size_mb: Annotated[float, Meta(gt=0)] = 5.0
    log_files: Count = 5
    start_timeout_s: Annotated[float, Meta(gt=0)] = 30.0


class CacheSettings(Section, frozen=True, kw_only=True):
    """The folder of cached models. Empty means `models` in the platform's cache folder."""

    dir: str = ""


class DownloadSettings(Section, frozen=True, kw_only=True):
    """Downloads of model files.

    Attributes:
        workers: Parallel connections per model.
        chunk_mb: Size of the ranges that are requested, in MB (10^6 bytes). A crash loses at most the unfinished ones.
        speed_limit_mbps: Maximum rate of a download in Mbit/s (10^6 bits); 0 means unlimited.
        connect_timeout_s: Time limit for connecting to a server.
        stall_timeout_s: A connection that receives next to nothing for this long is closed and retried.
        retries: How many times in a row a range may fail without any progress before the download fails.
        retry_pause_s: Pause before the first retry. It doubles with each retry up to 30 s; a Retry-After header takes
            precedence.
    """

    workers: Annotated[int, Meta(ge=1, le=64)] = 8
    chunk_mb: Annotated[float, Meta(gt=0)] = 8.0
    speed_limit_mbps: Annotated[float, Meta(ge=0)] = 0.0
    connect_timeout_s: Seconds = 15.0
    stall_timeout_s: Seconds = 30.0
    retries: Annotated[int, Meta(ge=0)] = 5
    retry_pause_s: Seconds = 0.5


class ModelSettings(Section, frozen=True, kw_only=True):
    """Loading, placement and unloading of models.

    Attributes:
        default: The model that `cupola model run` uses when none is named.
        ttl_s: Idle time in seconds before a model is unloaded; 0 keeps it loaded.
        preload: Models to load when the service starts.
        provider: The execution provider to run models on, such as "openvino"; empty chooses automatically.
        device: The device type to run models on; empty chooses automatically.
        auto_download: Whether a request may download a model that is not cached.
        context_length: Maximum context length in tokens for every model; 0 uses the model's own.
        queue_limit: How many turns may wait for one model, besides those that run.
        memory_budget_mb: Memory that all loaded models together may use, in MB (10^6 bytes), before idle ones are
            unloaded; 0 means three quarters of the machine's memory.
        pinned: Models that are never unloaded to make room.
        min_provider_share: The fraction of a model's graph nodes, from 0 to 1, that its execution provider must take.
            ONNX Runtime computes the remaining nodes on the CPU. A model below this share is refused.
        allow_fallback: Run such a model anyway.
        fallback: The local or external model that answers requests for models that this machine cannot run; empty
            for none.
    """

    default: str = "smollm2-135m"
    ttl_s: Seconds = 600.0
    preload: tuple[str, ...] = ()
    provider: str = ""
    device: Literal["", "CPU", "GPU", "NPU"] = ""
    auto_download: bool = False
    context_length: Annotated[int, Meta(ge=0)] = 0
    queue_limit: Annotated[int, Meta(ge=0)] = 64
    memory_budget_mb: Annotated[int, Meta(ge=0)] = 0
    pinned: tuple[str, ...] = ()
    min_provider_share: Annotated[float, Meta(ge=0, le=1)] = 0.8
    allow_fallback: bool = False
    fallback: str = ""


class WorkerSettings(Section, frozen=True, kw_only=True):
    """Limits of worker processes.

    Attributes:
        load_timeout_s: Time limit for loading a model.
        step_timeout_s: A worker that completes no step for this long while turns are running is killed.
        prefill_chunk: Maximum number of prompt tokens per step; half of it while other turns are running.
        restart_limit: How many times one model may be started within a minute.
    """

    load_timeout_s: Seconds = 600.0
    step_timeout_s: Seconds = 120.0
    prefill_chunk: Annotated[int, Meta(ge=16)] = 256
    restart_limit: Count = 5


class MachineSettings(Section, frozen=True, kw_only=True):
    """What is installed for this machine and known about it.

    Attributes:
        dir: Folder of the execution providers' environments, of probe results and of measurements. Empty means
            `machine` in the platform's data folder.
        probe_timeout_s: Time limit for a provider to report its devices; later it counts as having none.
    """

    dir: str = ""
    probe_timeout_s: Annotated[float, Meta(gt=0)] = 8.0


class ResponseSettings(Section, frozen=True, kw_only=True):
    """Stored responses (`store` of OpenAI's Responses API).

    Attributes:
        max_stored: Maximum number of stored responses; the oldest are deleted.
        ttl_days: Days after which a response is deleted.
        dir: Their folder. Empty means `responses` in the platform's data folder.
    """

    max_stored: Count = 1000
    ttl_days: Annotated[float, Meta(gt=0)] = 30.0
    dir: str = ""


class PluginSettings(Section, frozen=True, kw_only=True):
    """Plugins: `disabled` lists entry point names to skip; with `strict`, any failing plugin prevents the start."""

    disabled: tuple[str, ...] = ()
    strict: bool = False


class FoundryCatalogSettings(Section, frozen=True, kw_only=True):
    """A catalog that implements the protocol of Azure AI Foundry. Empty values mean Azure's own.

    Attributes:
        protocol: "v2" is the asset gallery, "v1" the entities index that preceded it.
        catalog_url: Full URL of the listing. May contain "{region}".
        registry_url: Full URL that returns the locations of a model's files. May contain "{region}".
        region: Such as "westeurope"; empty detects it.
        region_fallback: Try neighbouring regions when one does not respond.
        deployment_options: v2 lists models that are available for one of these.
        tags: v1 lists models whose tag `foundryLocal` has one of these values; "test" marks test models.
        devices: Devices to list models for, such as "GPU:CUDAExecutionProvider"; empty means those of this machine.
        refresh_s: Age in seconds after which a cached listing is refreshed.
        timeout_s: Time limit of the network before the cached listing is used instead.
    """

    protocol: Literal["v1", "v2"] = "v2"
    catalog_url: str = ""
    registry_url: str = ""
    region: str = ""
    region_fallback: bool = True
    deployment_options: tuple[str, ...] = ("Foundry Local on Devices",)
    tags: tuple[str, ...] = ("",)
    devices: tuple[Annotated[str, Meta(pattern=r"^(CPU|GPU|NPU):\w+$")], ...] = ()
    refresh_s: Seconds = 4 * 3600.0
    timeout_s: Seconds = 15.0


class AzureSettings(FoundryCatalogSettings, frozen=True, kw_only=True):
    """Azure AI Foundry's catalog, and private catalogs or mirrors that use its protocol.

    Attributes:
        enabled: Whether to list Azure's models. Off by default because listings then contact a server every few hours.
        private: Further catalogs by name, from `[azure.private.NAME]`. They are used regardless of `enabled`, and take
            precedence over Azure where both list the same id.
    """

    enabled: bool = False
    private: dict[Name, FoundryCatalogSettings] = field(default_factory=dict)


class ExternalSettings(Section, frozen=True, kw_only=True):
    """An external service with an OpenAI-compatible API, whose models are listed besides local ones.

    The API key is not a setting itself: it is read from an environment variable or a file.

    Attributes:
        base_url: Base URL, usually with "/v1". With a key, plain http is only allowed to loopback addresses.
        models: The service's own model names. Requests use NAME/MODEL, or MODEL if no local model has that name.
        api_key_env: The environment variable that holds the key.
        api_key_file: A file whose first line is the key.
        connect_timeout_s: Time limit for connecting.
        timeout_s: Time limit between two chunks of a response, and before the first one.
        max_tokens_field: The name of the field that limits the answer; OpenAI's newest models accept only
            "max_completion_tokens".
    """

    base_url: Annotated[str, Meta(pattern=r"^https?://[^\s@?#]+$")]
    models: tuple[Annotated[str, Meta(min_length=1)], ...] = ()
    api_key_env: str = ""
    api_key_file: str = ""
    connect_timeout_s: Annotated[float, Meta(gt=0)] = 10.0
    timeout_s: Annotated[float, Meta(gt=0)] = 120.0
    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
