"""The rules of the merged catalog, as people rely on them: which variant a name means, and who describes it."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cupola.catalog import CatalogSource
from cupola.errors import CatalogError, ModelNotFoundError
from cupola.frontend import CachedModel, Device, ModelInfo
from cupola.model_index import ModelIndex

pytestmark = pytest.mark.anyio
RANKS = ["x-qnn-npu", "x-openvino-gpu", "x-cuda-gpu", "x-generic-gpu", "x-openvino-cpu", "x-generic-cpu"]


def info(id_, alias="x", source="listed", **fields):
    return ModelInfo(id=id_, alias=alias, source=source, publisher="me", **fields)


class Listed(CatalogSource):
    name = "listed"

    def __init__(self, *infos, error=None):
        self.infos, self.error, self.devices = infos, error, None

    def use_devices(self, devices):
        self.devices = devices

    async def models(self):
        if self.error:
            raise self.error
        return self.infos

    async def files(self, model):
        return []


class Kept:
    """As much of a cache store as the catalog asks for."""

    name = "kept"

    def __init__(self, *infos):
        self.infos = infos

    async def list(self):
        return [CachedModel(each, Path("/nowhere"), 1) for each in self.infos]


async def found(name, listed, cached=()):
    return [entry.info.id for entry in await ModelIndex([Listed(*listed)], [Kept(*cached)]).variants(name)]


async def test_a_cached_variant_comes_first_within_its_rank_and_never_before_a_better_rank():
    listed = [info(f"{name}:{version}") for name in RANKS for version in (2, 1)]
    cached = [info("x-generic-cpu:1"), info("x-cuda-gpu:1")]
    assert await found("x", listed, cached) == [
        *["x-qnn-npu:2", "x-qnn-npu:1", "x-openvino-gpu:2", "x-openvino-gpu:1", "x-cuda-gpu:1", "x-cuda-gpu:2"],
        *["x-generic-gpu:2", "x-generic-gpu:1", "x-openvino-cpu:2", "x-openvino-cpu:1"],
        *["x-generic-cpu:1", "x-generic-cpu:2"],
    ]


async def test_a_cached_model_that_no_catalog_lists_is_found_by_every_name():
    cached = [info("Own-Model:4", alias="own")]
    for name in ("own-model:4", "OWN-MODEL", "Own"):
        assert await found(name, [], cached) == ["Own-Model:4"]


async def test_an_id_without_version_means_the_highest_even_if_a_lower_one_is_cached():
    assert await found("x-generic-cpu", [info("x-generic-cpu:10")], [info("x-generic-cpu:9")]) == ["x-generic-cpu:10"]


async def test_an_exact_id_wins_over_an_alias_of_that_name_and_a_name_over_an_alias():
    models = [info("phi:1", alias="other"), info("z-generic-cpu:1", alias="phi"), info("y:2", alias="phi:1")]
    assert await found("phi:1", models) == ["phi:1"]
    assert await found("phi", models) == ["phi:1"]


async def test_the_first_source_describes_a_model_and_brings_its_files():
    first = Listed(info("a:1", display_name="first"))
    second = Listed(info("A:1", display_name="second"), info("b:1"))
    entries = await ModelIndex([first, second], [Kept(info("a:1", display_name="kept"))]).entries()
    assert [(entry.info.display_name, entry.source) for entry in entries] == [("first", first), ("", second)]
    assert entries[0].cached.info.display_name == "kept"


@pytest.mark.parametrize("error", [CatalogError(source="listed", detail="no network"), ValueError("a fault")])
async def test_a_source_that_fails_costs_only_its_own_models(error):
    entries = await ModelIndex([Listed(error=error), Listed(info("a:1"))], [Kept(info("b:1"))]).entries()
    assert {entry.info.id for entry in entries} == {"a:1", "b:1"}


async def test_sources_are_told_the_devices_and_one_that_fails_at_it_costs_nothing_else():
    class Broken(Listed):
        def use_devices(self, devices):
            raise ValueError("a fault")

    devices, source = [Device("CPUExecutionProvider", "CPU")], Listed(info("a:1"))
    entries = await ModelIndex([Broken(info("b:1")), source], [], devices).entries()
    assert source.devices == devices
    assert [entry.info.id for entry in entries] == ["a:1", "b:1"]


async def test_an_unknown_name_is_answered_with_what_comes_near():
    listed = [info("phi-4-mini-generic-cpu:5", alias="phi-4-mini"), info("qwen-generic-cpu:1", alias="qwen")]
    with pytest.raises(ModelNotFoundError, match="Did you mean 'phi-4-mini'"):
        await found("Phi4-mini", listed)


@given(st.sampled_from(RANKS), st.integers(0, 99), st.data())
async def test_every_listed_model_is_found_by_its_id_in_any_case(name, version, data):
    listed = [info(f"{each}:{number}") for each in RANKS for number in (0, version)]
    spelled = "".join(data.draw(st.sampled_from([c.lower(), c.upper()])) for c in f"{name}:{version}")
    assert await found(f" {spelled} ", listed) == [f"{name}:{version}"]


async def test_a_listing_says_how_old_it_is_or_why_there_is_none():
    old, broken = Listed(info("a:1")), Listed(error=CatalogError(source="broken", detail="no network"))
    old.name, old.listed_at_unix = "old", 1_700_000_000.0
    broken.name = "broken"
    catalog = ModelIndex([old, broken, Listed()], [])
    await catalog.entries()
    first, second, third = catalog.listings()
    assert (first.source, first.listed_at_unix, first.problem) == ("old", 1_700_000_000.0, "")
    assert "no network" in second.problem
    assert (third.listed_at_unix, third.problem) == (None, "")
    broken.error = None
    await catalog.entries()
    assert catalog.listings()[1].problem == ""
