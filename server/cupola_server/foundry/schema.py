"""What travels: the replies and parameters of Foundry Local's dialects."""

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct, field

Name = Annotated[str, Meta(min_length=1)]


class ServiceStatus(Struct, kw_only=True, rename="camel"):
    """The reply to GET /openai/status.

    Attributes:
        endpoints: Base URLs of the service.
        model_dir_path: Where models lie.
        pipe_name: Path of the Unix domain socket with the same API; empty if there is none.
        is_auto_registration_resolved: Always, for execution providers come with their packages.
        auto_registration_status: Which execution providers there are, as a sentence.
    """

    endpoints: tuple[str, ...]
    model_dir_path: str
    pipe_name: str
    is_auto_registration_resolved: Literal[True] = True
    auto_registration_status: str


class WebServiceStatus(Struct, kw_only=True, rename="camel"):
    """The reply to GET /status. `model_cache_path` is the name of 2.x, `model_dir_path` that of 1.x."""

    endpoints: tuple[str, ...]
    model_cache_path: str
    model_dir_path: str
    pid: int


class Runtime(Struct, kw_only=True, rename="camel"):
    """What a variant is made for."""

    device_type: Literal["CPU", "GPU", "NPU"]
    execution_provider: str


class PromptParts(Struct, kw_only=True):
    """How catalogs of the first generation describe a chat template."""

    system: str
    user: str
    assistant: str
    prompt: str


class Parameter(Struct, kw_only=True, rename="pascal"):
    """A recommended setting."""

    name: str
    value: str


class RecommendedSettings(Struct, kw_only=True):
    """What the publisher recommends for generation."""

    parameters: tuple[Parameter, ...] = ()


class CatalogModel(Struct, kw_only=True, rename="camel"):
    """An entry of GET /foundry/list. SDKs want every key, and `version` as a string."""

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
        unload: False keeps the model until it is unloaded by somebody; true unloads it when idle, which is the default.
        ttl: Idle seconds after which it is unloaded; counts more than `unload` when above 0.
        timeout: What the C# SDK calls `ttl`.
        ep: The execution provider that shall run it, such as "cuda"; the Python SDK sends an empty one for none.
    """

    unload: bool | None = None
    ttl: float | None = None
    timeout: float | None = None
    ep: str = ""


class UnloadQuery(Struct, kw_only=True):
    """The parameters of GET /openai/unload and /openai/unloadall. `force` ends running answers with an error."""

    force: bool = False


class WantedModel(Struct, kw_only=True, forbid_unknown_fields=True):
    """What to download. The name decides; the rest describes what the catalog knows better."""

    name: Name
    uri: str | None = None
    publisher: str | None = None
    provider_type: str | None = field(default=None, name="providertype")
    prompt_template: dict[str, Any] | str | None = field(default=None, name="prompttemplate")
    path: str | None = None


class DownloadRequest(Struct, kw_only=True, forbid_unknown_fields=True):
    """The body of POST /openai/download. The case of keys does not matter.

    `bufferSize`, `progressToken` and `ignorePipeReport` steer a progress report that is always in the reply. A token
    or a folder of its own for one model cannot be honoured.
    """

    model: WantedModel | Name
    token: str | None = None
    ignore_pipe_report: bool | None = field(default=None, name="ignorepipereport")
    progress_token: str | int | None = field(default=None, name="progresstoken")
    custom_dir_path: str | None = field(default=None, name="customdirpath")
    buffer_size: int | None = field(default=None, name="buffersize")


class RegisterRequest(Struct, kw_only=True, forbid_unknown_fields=True):
    """The body of POST /openai/register. The case of keys does not matter.

    Attributes:
        type_name: What the service is called here: its models are TYPENAME/MODELNAME.
        model_name: What the service calls the model.
        base_uri: Where it speaks OpenAI's API, with the "/v1" that most have.
    """

    type_name: Name = field(name="typename")
    model_name: Name = field(name="modelname")
    base_uri: Name = field(name="baseuri")


class TokenCount(Struct, kw_only=True, rename="camel"):
    """The reply to POST /v1/chat/completions/tokenizer/encode/count."""

    token_count: int


class Loaded(Struct):
    """The reply to GET /models/load/{name}."""

    status: Literal["loaded", "already_loaded"]


class Unloaded(Struct):
    """The reply to GET /models/unload/{name}."""

    status: Literal["unloaded", "not_loaded"]


class ShuttingDown(Struct):
    """The reply to POST /shutdown."""

    status: Literal["shutting_down"] = "shutting_down"
