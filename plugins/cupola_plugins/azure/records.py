"""Converts catalog records to `ModelInfo`. Any field may be missing or have another type.

The field names are those observed in the responses of the AzureML catalog.
"""

import re
from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache

import msgspec

from cupola.catalog import DeviceType, ModelInfo, PromptTemplate

# The release of Foundry Local whose models Cupola can run. Records declare the oldest release that can run them.
COMPATIBLE_WITH = "2.2.1"
UNKNOWN_PUBLISHER = "unknown"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")
_PARENT = re.compile(r"/models/([^/]+)(?:/versions/(\d+))?")
DEVICES: Mapping[str, DeviceType] = {"CPU": "CPU", "GPU": "GPU", "NPU": "NPU"}


class RecordError(ValueError):
    """A record cannot be listed. The text is the reason."""


class Record:
    """Reads a JSON object by paths. Values that are missing or have another type read as empty."""

    def __init__(self, data: object) -> None:
        self._data = data

    def at(self, *path: str) -> object:
        """Return the value at a path of keys, None if there is none."""
        value = self._data
        for key in path:
            value = value.get(key) if isinstance(value, dict) else None
        return value

    def text(self, *path: str) -> str:
        """Return a string. Numbers are converted."""
        value = self.at(*path)
        return str(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else ""

    def number(self, *path: str) -> int:
        """Return an integer of at least 0, also from a string of digits; 0 if there is none."""
        return _number(self.at(*path)) or 0

    def texts(self, *path: str) -> tuple[str, ...]:
        """Return the strings of a list, or of a comma-separated string."""
        value = self.at(*path)
        items = value.split(",") if isinstance(value, str) else value if isinstance(value, list) else []
        return tuple(item.strip() for item in items if isinstance(item, str) and item.strip())

    def is_true(self, *path: str) -> bool:
        """Tell whether the value is true or the string "true"."""
        return self.truth(*path) is True

    def truth(self, *path: str) -> bool | None:
        """Return a boolean, also from the strings "true" and "false"; None for anything else."""
        return {"true": True, "false": False}.get(str(self.at(*path)).lower())


def model_of(data: object, *, source: str) -> ModelInfo:
    """Convert a record: the full entity, or the flat summary of protocol version 2.

    Raises:
        RecordError: The record lacks a required field, or needs a newer release.
    """
    record = Record(data)
    info = _from_entity(record, source) if record.at("properties") else _from_summary(record, source)
    if needs_newer(info.min_version):
        raise RecordError(f"it needs Foundry Local {info.min_version}; Cupola is compatible with {COMPATIBLE_WITH}")
    return info


@lru_cache(maxsize=64)
def needs_newer(min_version: str) -> bool:
    """Tell whether a `minFLVersion` is newer than `COMPATIBLE_WITH`."""
    return _release(min_version) > _release(COMPATIBLE_WITH)


def model_id(name: str, version: object) -> str:
    """Return "name:version".

    Raises:
        RecordError: The name or the version is missing or invalid.
    """
    if not _NAME.fullmatch(name):
        raise RecordError(f"its name {name!r} is invalid" if name else "it has no name")
    if (number := _number(version)) is None:
        raise RecordError("it has no version" if version in (None, "") else f"its version {version!r} is not a number")
    return f"{name}:{number}"


def unix_time(moment: str) -> int:
    """Return the Unix time of an ISO 8601 string in seconds, 0 if it is invalid."""
    try:
        return max(0, int(datetime.fromisoformat(moment).timestamp()))
    except (ValueError, OverflowError):
        return 0


def prompt_template(text: str) -> PromptTemplate | None:
    """Decode a prompt template from JSON. Return None if it is empty or damaged: models contain their own template."""
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
        raise RecordError("it is not a variant for a device")
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
    """Return the value of a tag; without the tag, `listed`, whether the capability is listed."""
    value = tags.truth(tag)
    return listed if value is None else value


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
    """Read the fields of a variant that both record forms share."""
    uri = record.text("assetId")
    if not uri:
        raise RecordError("it has no asset id")
    name = properties.text("name")
    id_ = model_id(name, properties.at("version"))
    variant = Record(properties.at(key, "variantMetadata"))
    device = DEVICES.get(variant.text("device").upper())
    if device is None:
        raise RecordError(f"its device {variant.text('device')!r} is unknown")
    provider = variant.text("executionProvider")
    if not provider.endswith("ExecutionProvider"):
        raise RecordError(f"its execution provider {provider!r} is invalid")
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
    """Return the alias if it has no spaces or colons, else ""."""
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
    """Return the numbers of a release without its pre-release suffix; () if the text is not a version."""
    match = re.match(r"\s*v?(\d+(?:\.\d+)*)", version)
    numbers = [int(part) for part in match[1].split(".")] if match else []
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)
