"""The request parameters, bodies and responses of Foundry Local's APIs."""

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct, field

Name = Annotated[str, Meta(min_length=1)]


class ServiceStatus(Struct, kw_only=True, rename="camel"):
    """The response to GET /openai/status.

    Attributes:
        endpoints: Base URLs of the service.
        model_dir_path: The folder of cached models.
        pipe_name: Path of the Unix domain socket that serves the same API; empty if there is none.
        is_auto_registration_resolved: Always true; execution providers are installed with their packages.
        auto_registration_status: A sentence with the available execution providers.
    """

    endpoints: tuple[str, ...]
    model_dir_path: str
    pipe_name: str
    is_auto_registration_resolved: Literal[True] = True
    auto_registration_status: str


class WebServiceStatus(Struct, kw_only=True, rename="camel"):
    """The response to GET /status. `model_cache_path` is the name in 2.x, `model_dir_path` the one in 1.x."""

    endpoints: tuple[str, ...]
    model_cache_path: str
    model_dir_path: str
    pid: int


class Runtime(Struct, kw_only=True, rename="camel"):
    """The device type and execution provider of a variant."""

    device_type: Literal["CPU", "GPU", "NPU"]
    execution_provider: str


class PromptParts(Struct, kw_only=True):
    """A chat template in the form of first-generation catalogs."""

    system: str
    user: str
    assistant: str
    prompt: str


class Parameter(Struct, kw_only=True, rename="pascal"):
    """A recommended generation setting."""

    name: str
    value: str


class RecommendedSettings(Struct, kw_only=True):
    """The generation settings that the publisher recommends."""

    parameters: tuple[Parameter, ...] = ()


class CatalogModel(Struct, kw_only=True, rename="camel"):
    """An entry of GET /foundry/list. SDKs require every key, and `version` as a string."""

    name: str
    display_name: str
    provider_type: str
    uri: str
    version: str
    model_type: str
    prompt_template: PromptParts | None
    publisher: str
    task: str
    test_model: bool
    runtime: Runtime
    file_size_mb: int
    model_settings: RecommendedSettings
    alias: str
    supports_tool_calling: bool
    license: str
    license_description: str
    parent_model_uri: str
    max_output_tokens: int | None
    min_fl_version: str | None = field(name="minFLVersion")


class LoadQuery(Struct, kw_only=True):
    """The parameters of GET /openai/load.

    Attributes:
        unload: True, the default, unloads the model when it is idle; false keeps it loaded.
        ttl: Idle seconds before the model is unloaded; takes precedence over `unload` if above 0.
        timeout: The C# SDK's name for `ttl`.
        ep: The execution provider to run it on, such as "cuda"; the Python SDK sends "" for none.
    """

    unload: bool | None = None
    ttl: float | None = None
    timeout: float | None = None
    ep: str = ""


class UnloadQuery(Struct, kw_only=True):
    """The parameters of GET /openai/unload and /openai/unloadall. `force` fails running requests."""

    force: bool = False


class WantedModel(Struct, kw_only=True, forbid_unknown_fields=True):
    """The model to download. Only the name is used; the catalog provides the rest."""

    name: Name
    uri: str | None = None
    publisher: str | None = None
    provider_type: str | None = field(default=None, name="providertype")
    prompt_template: dict[str, Any] | str | None = field(default=None, name="prompttemplate")
    path: str | None = None


class DownloadRequest(Struct, kw_only=True, forbid_unknown_fields=True):
    """The body of POST /openai/download. Keys are case-insensitive.

    `bufferSize`, `progressToken` and `ignorePipeReport` have no effect, because the response always reports progress.
    `token` and `customDirPath` are refused.
    """

    model: WantedModel | Name
    token: str | None = None
    ignore_pipe_report: bool | None = field(default=None, name="ignorepipereport")
    progress_token: str | int | None = field(default=None, name="progresstoken")
    custom_dir_path: str | None = field(default=None, name="customdirpath")
    buffer_size: int | None = field(default=None, name="buffersize")


class RegisterRequest(Struct, kw_only=True, forbid_unknown_fields=True):
    """The body of POST /openai/register. Keys are case-insensitive.

    Attributes:
        type_name: The name of the external service here; its models are named TYPENAME/MODELNAME.
        model_name: The service's own name of the model.
        base_uri: The base URL of the service's OpenAI-compatible API, usually with "/v1".
    """

    type_name: Name = field(name="typename")
    model_name: Name = field(name="modelname")
    base_uri: Name = field(name="baseuri")


class TokenCount(Struct, kw_only=True, rename="camel"):
    """The response to POST /v1/chat/completions/tokenizer/encode/count."""

    token_count: int


class Loaded(Struct):
    """The response to GET /models/load/{name}."""

    status: Literal["loaded", "already_loaded"]


class Unloaded(Struct):
    """The response to GET /models/unload/{name}."""

    status: Literal["unloaded", "not_loaded"]


class ShuttingDown(Struct):
    """The response to POST /shutdown."""

    status: Literal["shutting_down"] = "shutting_down"
