import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cupola.catalog import CatalogSource
from cupola.errors import ModelNotFoundError
from cupola.frontend import ModelInfo
from cupola.model_index import ModelIndex

pytestmark = pytest.mark.anyio
ORDER = ["x-qnn-npu", "x-openvino-gpu", "x-cuda-gpu", "x-generic-gpu", "x-openvino-cpu", "x-generic-cpu", "x"]


class Listed(CatalogSource):
    name = "listed"

    def __init__(self, *ids):
        self.infos = [ModelInfo(id=i, alias=i.split("-")[0], source=self.name, publisher="me") for i in ids]

    async def models(self):
        return self.infos

    async def files(self, model):
        return []


async def found(name, *ids):
    return [entry.info.id for entry in await ModelIndex([Listed(*ids)], []).variants(name)]


async def test_variants_come_in_foundrys_order_and_newer_versions_first():
    ids = [f"{name}:{version}" for name in reversed(ORDER[:-1]) for version in (1, 12, 3)]
    assert await found("x", *ids) == [f"{name}:{version}" for name in ORDER[:-1] for version in (12, 3, 1)]


@pytest.mark.parametrize(
    ("name", "id"),
    [("Phi-4-Generic-CPU:2", "phi-4-generic-cpu:2"), ("phi-4-generic-cpu", "phi-4-generic-cpu:10"), (" phi ", None)],
)
async def test_an_id_is_taken_exactly_and_without_its_version_the_highest_counts(name, id):  # noqa: A002
    ids = ["phi-4-generic-cpu:2", "phi-4-generic-cpu:10", "phi-4-generic-cpu:9"]
    assert await found(name, *ids) == ([id] if id else ["phi-4-generic-cpu:10", "phi-4-generic-cpu:9", ids[0]])


async def test_the_first_source_that_lists_an_id_describes_it():
    first, second = Listed("a-cpu:1"), Listed("A-cpu:1", "b-cpu:1")
    entries = await ModelIndex([first, second], []).entries()
    assert [(entry.info.id, entry.source) for entry in entries] == [("a-cpu:1", first), ("b-cpu:1", second)]


@given(st.text())
def test_any_unknown_name_is_a_clear_error(name):
    with pytest.raises(ModelNotFoundError, match="cupola model list"):
        anyio.run(found, name + "?", "phi-4-generic-cpu:2")
