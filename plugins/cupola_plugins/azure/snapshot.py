"""`foundry.modelinfo.json`: the last listing, in the cache folder, in the format of Foundry Local 2.2 as observed.

Foundry Local and Cupola read each other's files. Cupola adds a few keys, so that no field is lost, and records the
catalog and its queries: only such a listing can replace a request. Everything here blocks.
"""

import contextlib
import os
import tempfile
from collections.abc import Mapping, Sequence
from operator import attrgetter
from pathlib import Path

import msgspec
from msgspec import Raw, Struct

from cupola.catalog import ModelInfo, PromptTemplate
from cupola_plugins.azure.records import (
    DEVICES,
    UNKNOWN_PUBLISHER,
    RecordError,
    model_id,
    needs_newer,
    parent_id,
    unix_time,
)

_MEGABYTE = 1 << 20

# Fields of the record and the equal fields of `ModelInfo`; None in the record is an empty value there.
_SAME: Mapping[str, str] = {
    "alias": "alias",
    "uri": "uri",
    "model_type": "model_type",
    "display_name": "display_name",
    "publisher": "publisher",
    "license": "license",
    "license_description": "license_description",
    "task": "task",
    "min_fl_version": "min_version",
    "parent_model_uri": "parent_uri",
    "tool_call_start": "tool_call_start",
    "tool_call_end": "tool_call_end",
    "reasoning_start": "reasoning_start",
    "reasoning_end": "reasoning_end",
    "created_at": "created_unix",
    "file_size_bytes": "size_bytes",
    "v_ram_footprint_bytes": "device_memory_bytes",
}
# Foundry Local 2.2 stores these as comma-separated string properties.
_LISTS = ("input_modalities", "output_modalities", "capabilities", "quantization")
_CONTEXT = "context_length"
_same_of = attrgetter(*_SAME)


class Origin(Struct, frozen=True):
    """The catalog and the queries of a listing."""

    catalog: str
    queries: tuple[str, ...]
    filters: tuple[str, ...] = ()


class Snapshot(Struct, frozen=True):
    """A listing and its age. `origin` is None if Foundry Local wrote it; `region` is "" if it is not known."""

    models: Sequence[ModelInfo]
    saved_unix: float
    origin: Origin | None = None
    region: str = ""


class _Runtime(Struct, rename="camel"):
    device_type: str = "CPU"
    execution_provider: str = "CPUExecutionProvider"


class _Setting(Struct, rename="pascal"):
    name: str
    value: str | int | float | bool | None = None


class _Settings(Struct):
    parameters: list[_Setting] = []


class _Record(Struct, rename="camel", omit_defaults=True, kw_only=True):
    """One model in the file, as Foundry Local 2.2 and older releases write it. Cupola adds the last two fields."""

    id: str | None = None
    name: str
    version: int | str | None = None
    alias: str | None = None
    uri: str | None = None
    detected_region: str | None = None
    provider_type: str | None = None
    model_type: str | None = None
    display_name: str | None = None
    publisher: str | None = None
    license: str | None = None
    license_description: str | None = None
    task: str | None = None
    min_fl_version: str | None = msgspec.field(default=None, name="minFLVersion")
    parent_model_uri: str | None = None
    tool_call_start: str | None = None
    tool_call_end: str | None = None
    reasoning_start: str | None = None
    reasoning_end: str | None = None
    prompt_template: PromptTemplate | None = None
    model_settings: _Settings | None = None
    runtime: _Runtime | None = None
    file_size_mb: float | None = None
    max_output_tokens: int | None = None
    created_at: int | float | str | None = None
    supports_tool_calling: bool | None = None
    supports_reasoning: bool | None = None
    test_model: bool | None = None
    string_properties: dict[str, str] = {}
    int_properties: dict[str, int] = {}
    file_size_bytes: int | None = None
    v_ram_footprint_bytes: int | None = None


class _File(Struct, rename="camel", omit_defaults=True):
    models: list[Raw]
    version: int = 0
    saved_at_unix: float | None = None
    saved_at: str | None = None
    cupola: Origin | None = None


def read_snapshot(path: Path, *, source: str) -> Snapshot | None:
    """Read a snapshot; None if it is missing or damaged. Skips models that cannot be read."""
    try:
        file = msgspec.json.decode(path.read_bytes(), type=_File)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return None
    decode = msgspec.json.Decoder(_Record).decode
    models: dict[str, ModelInfo] = {}
    region = ""
    for raw in file.models:
        with contextlib.suppress(msgspec.DecodeError, RecordError, UnicodeDecodeError):
            record = decode(raw)
            info = _info(record, source)
            models.setdefault(info.id.lower(), info)
            region = region or record.detected_region or ""
    saved_unix = file.saved_at_unix if file.saved_at_unix is not None else unix_time(file.saved_at or "")
    return Snapshot([*models.values()], saved_unix, file.cupola, region)


def write_snapshot(path: Path, snapshot: Snapshot) -> None:
    """Write a snapshot atomically: readers see either the old or the new one.

    Raises:
        OSError: The folder cannot be written.
    """
    content = _content(snapshot)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if os.name != "nt":
            Path(name).chmod(0o644)  # a cache may be shared by several users; mkstemp allows only one
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _content(snapshot: Snapshot) -> bytes:
    # The order of keys is that of Foundry Local.
    file: dict[str, object] = {
        "version": 1,
        "savedAtUnix": int(snapshot.saved_unix),
        "models": [_record(info, snapshot.region) for info in snapshot.models],
    }
    if snapshot.origin:
        file["cupola"] = snapshot.origin
    return msgspec.json.encode(file)


def _record(info: ModelInfo, region: str) -> _Record:
    parameters = [_Setting(name, value) for name, value in info.model_settings]
    record = _Record(
        id=info.id,
        name=info.name,
        version=info.version,
        detected_region=region or None,
        provider_type="FoundryLocal",
        prompt_template=info.prompt_template,
        model_settings=_Settings(parameters) if parameters else None,
        runtime=_Runtime(info.device, info.provider),
        file_size_mb=info.size_bytes // _MEGABYTE,
        max_output_tokens=info.max_output_tokens,
        supports_tool_calling=info.supports_tool_calling,
        supports_reasoning=info.supports_reasoning,
        test_model=info.is_test,
        string_properties={name: ",".join(value) for name in _LISTS if (value := getattr(info, name))},
        int_properties={_CONTEXT: info.context_length} if info.context_length else {},
    )
    return msgspec.structs.replace(record, **{key: getattr(info, name) or None for key, name in _SAME.items()})


def _info(record: _Record, source: str) -> ModelInfo:
    name, _, tail = record.name.partition(":")
    runtime = record.runtime or _Runtime()
    device = DEVICES.get(runtime.device_type.upper())
    if device is None or needs_newer(record.min_fl_version or ""):
        raise RecordError("it is not for this machine")
    settings = record.model_settings.parameters if record.model_settings else []
    info = ModelInfo(
        id=record.id if record.id and ":" in record.id else model_id(name, tail or record.version),
        alias=name,
        source=source,
        publisher=UNKNOWN_PUBLISHER,
        device=device,
        provider=runtime.execution_provider,
        size_bytes=int((record.file_size_mb or 0) * _MEGABYTE),
        context_length=record.int_properties.get(_CONTEXT, 0),
        max_output_tokens=record.max_output_tokens,
        supports_tool_calling=bool(record.supports_tool_calling),
        parent=parent_id(record.parent_model_uri or ""),
        prompt_template=record.prompt_template,
        supports_reasoning=bool(record.supports_reasoning),
        model_settings=tuple(
            (setting.name, "" if setting.value is None else str(setting.value)) for setting in settings
        ),
        is_test=bool(record.test_model),
    )
    same = {name: value for name, value in zip(_SAME.values(), _same_of(record), strict=True) if value}
    for name in _LISTS:
        if text := record.string_properties.get(name):
            same[name] = tuple(text.split(","))
    if isinstance(record.created_at, str | float):
        moment = record.created_at
        same["created_unix"] = unix_time(moment) if isinstance(moment, str) else int(moment)
    return msgspec.structs.replace(info, **same)
