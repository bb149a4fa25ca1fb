"""From what the catalog says about a model to a `ModelInfo`. Nothing of it is trusted to be there or of its type."""

import re
from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache

import msgspec

from cupola.catalog import DeviceType, ModelInfo, PromptTemplate

# The release of Foundry Local whose models we can run; the publisher hides from older ones what they cannot.
COMPATIBLE_WITH = "2.2.1"
UNKNOWN_PUBLISHER = "unknown"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")
_PARENT = re.compile(r"/models/([^/]+)(?:/versions/(\d+))?")
DEVICES: Mapping[str, DeviceType] = {"CPU": "CPU", "GPU": "GPU", "NPU": "NPU"}


class RecordError(ValueError):
    """A record cannot be listed; the text says why."""


class Record:
    """Reads a JSON object by paths. What is missing or of another type reads as empty."""

    def __init__(self, data: object) -> None:
        self._data = data

    def at(self, *path: str) -> object:
        """Return the value at a path of keys, None if there is none."""
        value = self._data
        for key in path:
            value = value.get(key) if isinstance(value, dict) else None
        return value

    def text(self, *path: str) -> str:
        """Return a text; numbers become texts."""
        value = self.at(*path)
        return str(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else ""

    def number(self, *path: str) -> int:
        """Return a whole number of at least 0, also from a text of digits; 0 if there is none."""
        return _number(self.at(*path)) or 0

    def texts(self, *path: str) -> tuple[str, ...]:
        """Return the texts of a list, or of a text with commas."""
        value = self.at(*path)
        items = value.split(",") if isinstance(value, str) else value if isinstance(value, list) else []
        return tuple(item.strip() for item in items if isinstance(item, str) and item.strip())

    def is_true(self, *path: str) -> bool:
        """Tell whether there is true, or a text that says so."""
        return self.truth(*path) is True

    def truth(self, *path: str) -> bool | None:
        """Return true or false, also from a text that says so; None if there is neither."""
        return {"true": True, "false": False}.get(str(self.at(*path)).lower())


def model_of(data: object, *, source: str) -> ModelInfo:
    """Map a record of either form: the full entity, or the flat summary of the second protocol.

    Raises:
        RecordError: It lacks what a model needs, or is not for this release.
    """
    record = Record(data)
    info = _from_entity(record, source) if record.at("properties") else _from_summary(record, source)
    if needs_newer(info.min_version):
        raise RecordError(f"it needs Foundry Local {info.min_version}, and this is compatible with {COMPATIBLE_WITH}")
    return info


@lru_cache(maxsize=64)
def needs_newer(min_version: str) -> bool:
    """Tell whether a `minFLVersion` is above the release we are compatible with."""
    return _release(min_version) > _release(COMPATIBLE_WITH)


def model_id(name: str, version: object) -> str:
    """Join the two.

    Raises:
        RecordError: One of them is missing or cannot be what it should be.
    """
    if not _NAME.fullmatch(name):
        raise RecordError(f"its name {name!r} is none" if name else "it has no name")
    if (number := _number(version)) is None:
        raise RecordError("it has no version" if version in (None, "") else f"its version {version!r} is no number")
    return f"{name}:{number}"


def unix_time(moment: str) -> int:
    """Return the seconds of an ISO time, 0 if it is none."""
    try:
        return max(0, int(datetime.fromisoformat(moment).timestamp()))
    except (ValueError, OverflowError):
        return 0


def prompt_template(text: str) -> PromptTemplate | None:
    """Read a template out of its JSON text; None for an empty or damaged one, since models bring a real one."""
    try:
        return msgspec.json.decode(text, type=PromptTemplate)
    except msgspec.DecodeError:
        return None


@lru_cache(maxsize=4096)
def parent_id(uri: str) -> str:
    """Return "phi-4:7" for "azureml://registries/azureml/models/phi-4/versions/7"."""
    match = _PARENT.search(uri)
    return f"{match[1]}:{match[2]}" if match and match[2] else match[1] if match else ""


def _from_entity(record: Record, source: str) -> ModelInfo:
    if not isinstance(record.at("properties", "variantInfo"), dict):
        raise RecordError("it is no variant for a device")
    if not record.text("entityId"):
        raise RecordError("it has no entity id")
    if record.text("annotations", "tags", "foundryLocal") == "hide":
        raise RecordError("its publisher hides it")
    tags, catalog = Record(record.at("annotations", "tags")), Record(record.at("annotations", "systemCatalogData"))
    properties = Record(record.at("properties"))
    capabilities = catalog.texts("modelCapabilities")
    info = _variant(record, properties, "variantInfo", source=source)
    return msgspec.structs.replace(
        info,
        alias=_alias(tags.text("alias")) or info.alias,
        publisher=catalog.text("publisher") or UNKNOWN_PUBLISHER,
        display_name=catalog.text("displayName") or info.name,
        task=tags.text("task") or _first(catalog.texts("inferenceTasks")),
        context_length=catalog.number("textContextWindow"),
        max_output_tokens=catalog.number("maxOutputTokens") or tags.number("maxOutputTokens") or None,
        license=tags.text("license") or catalog.text("license"),
        license_description=tags.text("licenseDescription"),
        supports_tool_calling=_claims(tags, "supportsToolCalling", "tool-calling" in capabilities),
        supports_reasoning=_claims(tags, "supportsReasoning", "reasoning" in capabilities),
        tool_call_start=tags.text("toolCallStart"),
        tool_call_end=tags.text("toolCallEnd"),
        reasoning_start=tags.text("reasoningStart"),
        reasoning_end=tags.text("reasoningEnd"),
        prompt_template=prompt_template(tags.text("promptTemplate")),
        created_unix=unix_time(properties.text("creationContext", "createdTime")),
        min_version=catalog.text("minFLVersion") or properties.text("minFLVersion"),
        is_test=tags.text("foundryLocal") == "test",
        input_modalities=catalog.texts("inputModalities"),
        output_modalities=catalog.texts("outputModalities"),
        capabilities=capabilities,
    )


def _claims(tags: Record, tag: str, listed: bool) -> bool:
    """Tell whether a model can do something: its tag decides, the list of capabilities where there is none."""
    said = tags.truth(tag)
    return listed if said is None else said


def _from_summary(record: Record, source: str) -> ModelInfo:
    capabilities = record.texts("modelCapabilities")
    limits = Record(record.at("modelLimits"))
    info = _variant(record, record, "variantInformation", source=source)
    return msgspec.structs.replace(
        info,
        alias=_alias(record.text("alias")) or info.alias,
        publisher=record.text("publisher") or UNKNOWN_PUBLISHER,
        display_name=record.text("displayName") or info.name,
        task=_first(record.texts("inferenceTasks")),
        context_length=limits.number("textLimits", "inputContextWindow"),
        max_output_tokens=limits.number("textLimits", "maxOutputTokens") or None,
        license=record.text("license"),
        license_description=record.text("licenseDescription"),
        supports_tool_calling="tool-calling" in capabilities,
        supports_reasoning="reasoning" in capabilities,
        created_unix=unix_time(record.text("createdTime")),
        min_version=record.text("minFLVersion"),
        is_test=record.is_true("isTestModel"),
        input_modalities=limits.texts("supportedInputModalities"),
        output_modalities=limits.texts("supportedOutputModalities"),
        capabilities=capabilities,
    )


def _variant(record: Record, properties: Record, key: str, *, source: str) -> ModelInfo:
    """Read what makes a record a variant, which both forms have in common."""
    uri = record.text("assetId")
    if not uri:
        raise RecordError("it has no asset id")
    name = properties.text("name")
    id_ = model_id(name, properties.at("version"))
    variant = Record(properties.at(key, "variantMetadata"))
    device = DEVICES.get(variant.text("device").upper())
    if device is None:
        raise RecordError(f"its device {variant.text('device')!r} is not known")
    provider = variant.text("executionProvider")
    if not provider.endswith("ExecutionProvider"):
        raise RecordError(f"its execution provider {provider!r} is none")
    parents = properties.at(key, "parents")
    parent_uri = Record(parents[0]).text("assetId") if isinstance(parents, list) and parents else ""
    return ModelInfo(
        id=id_,
        alias=parent_id(parent_uri).partition(":")[0] or name,
        source=source,
        publisher=UNKNOWN_PUBLISHER,
        device=device,
        provider=provider,
        size_bytes=variant.number("fileSizeBytes"),
        uri=uri,
        parent=parent_id(parent_uri),
        parent_uri=parent_uri,
        model_type=variant.text("modelType") or "ONNX",
        quantization=variant.texts("quantization"),
        device_memory_bytes=variant.number("vRamFootprintBytes"),
    )


def _alias(text: str) -> str:
    """Return an alias that cannot be taken for an id or for several words, else ""."""
    return text if re.fullmatch(r"[^\s:]+", text) else ""


def _first(tasks: tuple[str, ...]) -> str:
    return tasks[0] if tasks else "chat-completion"


def _number(value: object) -> int | None:
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,18}", value):
        return int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _release(version: str) -> tuple[int, ...]:
    """Return the numbers of a release, without a pre-release's name; () for a text that is no version."""
    match = re.match(r"\s*v?(\d+(?:\.\d+)*)", version)
    numbers = [int(part) for part in match[1].split(".")] if match else []
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)
