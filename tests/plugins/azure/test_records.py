"""Records of every sort, good and bad."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from azure_stand_in import AzureStandIn, Variant
from cupola.catalog import PromptTemplate
from cupola_plugins.azure.records import RecordError, model_of, needs_newer, parent_id, unix_time

ENTITY = Variant("phi-generic-cpu", version=2, alias="phi", size_bytes=1000).entity()
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


def changed(path, value, record=ENTITY):
    """A copy of a record with one value replaced, or removed with `...`."""
    copy = json.loads(json.dumps(record))
    *parents, last = path.split("/")
    inner = copy
    for part in parents:
        inner = inner.setdefault(part, {})
    if value is ...:
        inner.pop(last, None)
    else:
        inner[last] = value
    return copy


def read(record):
    return model_of(record, source="azure")


TAGS, CATALOG, VARIANT = "annotations/tags", "annotations/systemCatalogData", "properties/variantInfo/variantMetadata"


@pytest.mark.parametrize(
    ("path", "value", "field", "expected"),
    [
        (f"{TAGS}/promptTemplate", "", "prompt_template", None),
        (f"{TAGS}/promptTemplate", "{broken", "prompt_template", None),
        (f"{TAGS}/promptTemplate", '{"user":"<u>"}', "prompt_template", PromptTemplate(user="<u>")),
        (f"{TAGS}/alias", ..., "alias", "phi"),  # the parent's name
        (f"{TAGS}/alias", "phi:4", "alias", "phi"),
        (f"{CATALOG}/publisher", ..., "publisher", "unknown"),
        (f"{TAGS}/task", ..., "task", "chat-completion"),
        (f"{TAGS}/supportsToolCalling", "false", "supports_tool_calling", False),
        (f"{TAGS}/supportsToolCalling", True, "supports_tool_calling", True),
        (f"{TAGS}/supportsReasoning", "true", "supports_reasoning", True),
        (f"{TAGS}/reasoningStart", "<think>", "reasoning_start", "<think>"),
        (f"{TAGS}/reasoningEnd", "</think>", "reasoning_end", "</think>"),
        (f"{TAGS}/toolCallStart", "<tool>", "tool_call_start", "<tool>"),
        (f"{TAGS}/toolCallEnd", "</tool>", "tool_call_end", "</tool>"),
        (f"{TAGS}/licenseDescription", "MIT License", "license_description", "MIT License"),
        (f"{TAGS}/foundryLocal", "test", "is_test", True),
        (f"{CATALOG}/maxOutputTokens", "4096", "max_output_tokens", 4096),
        (f"{CATALOG}/maxOutputTokens", None, "max_output_tokens", None),
        (f"{CATALOG}/inferenceTasks", ["embeddings"], "task", "chat-completion"),  # the tag says otherwise
        (f"{CATALOG}/modelCapabilities", ["reasoning"], "supports_reasoning", True),
        (f"{CATALOG}/inputModalities", ["text", "image"], "input_modalities", ("text", "image")),
        (f"{CATALOG}/outputModalities", "text, image", "output_modalities", ("text", "image")),
        (f"{CATALOG}/displayName", {"odd": 1}, "display_name", "phi-generic-cpu"),
        (f"{CATALOG}/minFLVersion", "0.3.0", "min_version", "0.3.0"),
        ("properties/minFLVersion", "0.3.0", "min_version", "0.3.0"),
        ("properties/version", "12", "id", "phi-generic-cpu:12"),
        ("properties/creationContext/createdTime", "2024-01-15T10:30:00Z", "created_unix", 1_705_314_600),
        ("properties/creationContext/createdTime", "yesterday", "created_unix", 0),
        ("properties/variantInfo/parents", [], "alias", "phi"),
        ("properties/variantInfo/parents", None, "parent", ""),
        (f"{VARIANT}/device", "NPU", "device", "NPU"),
        (f"{VARIANT}/modelType", None, "model_type", "ONNX"),
        (f"{VARIANT}/fileSizeBytes", "1000", "size_bytes", 1000),
        (f"{VARIANT}/fileSizeBytes", -5, "size_bytes", 0),
    ],
)
def test_a_field_is_mapped_whatever_form_it_has(path, value, field, expected):
    assert getattr(read(changed(path, value)), field) == expected


@pytest.mark.parametrize(
    ("path", "value", "reason"),
    [
        ("properties/version", ..., "no version"),
        ("properties/version", "", "no version"),
        ("properties/version", "two", "is not a number"),
        ("properties/version", -1, "is not a number"),
        ("properties/version", True, "is not a number"),
        ("properties/name", "", "no name"),
        ("properties/name", "../../etc", "is invalid"),
        ("properties/name", "a:b", "is invalid"),
        ("assetId", ..., "asset id"),
        ("entityId", ..., "entity id"),
        ("properties/variantInfo", ..., "not a variant"),
        (f"{VARIANT}/device", "tpu", "device"),
        (f"{VARIANT}/executionProvider", None, "execution provider"),
        (f"{VARIANT}/executionProvider", "cuda", "execution provider"),
        (f"{TAGS}/foundryLocal", "hide", "hides"),
        (f"{CATALOG}/minFLVersion", "99.0.0", "needs Foundry Local 99.0.0"),
    ],
)
def test_what_cannot_be_listed_says_why(path, value, reason):
    with pytest.raises(RecordError, match=reason):
        read(changed(path, value))


@given(JSON)
def test_any_json_is_a_model_or_a_record_error(data):
    with pytest.raises(RecordError):
        read(data)


@given(st.sampled_from([TAGS, CATALOG, VARIANT, "properties", "annotations", "properties/variantInfo"]), st.data())
def test_any_value_anywhere_in_a_record_is_borne(path, data):
    parent = ENTITY
    for part in path.split("/"):
        parent = parent[part]
    key = data.draw(st.sampled_from(sorted(parent)))
    try:
        info = read(changed(f"{path}/{key}", data.draw(JSON)))
    except RecordError:
        return
    assert msgspec.json.decode(msgspec.json.encode(info), type=type(info)) == info


@pytest.mark.parametrize(
    ("version", "newer"),
    [
        *[("", False), ("0.3.0", False), ("2.2.1", False), ("2.2.1.0", False), ("1.0.0-preview2", False)],
        *[("2.2.2", True), ("2.10", True), ("3", True), ("v9.0", True), ("soon", False)],
    ],
)
def test_releases_are_compared_by_their_numbers(version, newer):
    assert needs_newer(version) is newer


def test_small_readings():
    assert parent_id("azureml://registries/azureml/models/Phi-4/versions/7") == "Phi-4:7"
    assert parent_id("azureml://registries/azureml/models/Phi-4") == "Phi-4"
    assert parent_id("") == ""
    assert unix_time("2026-06-02T07:03:01.3390586+00:00") == 1_780_383_781


@pytest.mark.anyio
@pytest.mark.parametrize("protocol", ["v1", "v2"])
async def test_a_bad_record_is_skipped_with_its_reason_and_costs_nothing_else(catalog_of, caplog, protocol):
    bad = [
        changed("properties/version", ...),
        changed("properties/variantInfo", ...),
        {"odd": [1]},
        changed("assetId", ""),
        {},
    ]
    kept = changed(f"{TAGS}/promptTemplate", "")
    with AzureStandIn(Variant("good-generic-cpu")) as azure:
        azure.catalog.raw += [*bad, kept]
        models = await catalog_of(azure, protocol).models()
    assert [model.id for model in models] == ["phi-generic-cpu:2", "good-generic-cpu:1"]
    assert caplog.text.count("Skipped") == len(bad)
    assert "phi-generic-cpu/versions/2 in the catalog azure: it has no version" in caplog.text
