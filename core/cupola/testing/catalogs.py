"""Conformance tests for catalog sources: subclass `CatalogSourceSuite` and provide a source.

Example::

    from cupola.testing import CatalogSourceSuite

    class TestMyModels(CatalogSourceSuite):
        @pytest.fixture
        def source(self):
            return MyModels()
"""

import re
from pathlib import Path
from typing import ClassVar, get_args

import anyio
import pytest

from cupola.contracts import CachedModel, CatalogSource, DeviceType, ProgressEvent, Staging
from cupola.downloads import HttpDownloader
from cupola.downloads.files import target_paths

# ruff: noqa: ASYNC240 - tests may block


class FolderStaging(Staging):
    """A staging folder without a store."""

    def __init__(self, path: Path) -> None:
        self.path = path

    async def commit(self) -> CachedModel:
        raise AssertionError("`fetch` must not commit; its caller does")

    async def discard(self) -> None:
        raise AssertionError("`fetch` must not discard; its caller does")

    async def release(self) -> None:
        """Do nothing."""


@pytest.mark.anyio
class CatalogSourceSuite:
    """Conformance tests for catalog sources. Override the fixture `source`, which must list at least one model.

    Attributes:
        fetches: Whether to really fetch the first model. Set it if the model is small.
    """

    fetches: ClassVar[bool] = False

    @pytest.fixture
    def anyio_backend(self) -> str:
        """Return the event loop to test on."""
        return "asyncio"

    @pytest.fixture
    def source(self) -> CatalogSource:
        """Return the source."""
        raise NotImplementedError("override the fixture `source`")

    async def test_its_name_is_a_plain_word(self, source: CatalogSource) -> None:
        assert re.fullmatch(r"[a-z0-9][a-z0-9_.-]*", source.name)

    async def test_every_model_says_what_the_engine_needs(self, source: CatalogSource) -> None:
        models = await source.models()
        assert models
        for model in models:
            assert re.fullmatch(r"[^:\s][^:]*:\d+", model.id), "an id is a name, a colon and a version"
            assert model.alias
            assert ":" not in model.alias
            assert model.publisher
            assert model.source == source.name
            assert model.device in get_args(DeviceType)
            assert model.provider.endswith("ExecutionProvider")
            assert model.size_bytes >= 0
            assert model.context_length >= 0

    async def test_ids_are_unique_whatever_their_case(self, source: CatalogSource) -> None:
        ids = [model.id.lower() for model in await source.models()]
        assert len(ids) == len(set(ids))

    async def test_listing_again_says_the_same(self, source: CatalogSource) -> None:
        assert list(await source.models()) == list(await source.models())

    async def test_tasks_may_list_at_the_same_time(self, source: CatalogSource) -> None:
        listings = []

        async def listed() -> None:
            listings.append(list(await source.models()))

        async with anyio.create_task_group() as tasks:
            for _ in range(4):
                tasks.start_soon(listed)
        assert all(listing == listings[0] for listing in listings)

    async def test_files_have_safe_names_sizes_and_proper_digests(self, source: CatalogSource, tmp_path: Path) -> None:
        for model in (await source.models())[:3]:
            files = await source.files(model)
            assert len(target_paths(files, model.id, tmp_path)) == len(files)
            for file in files:
                assert file.size_bytes >= 0
                assert re.fullmatch(r"|[0-9a-fA-F]{64}", file.sha256)

    async def test_fetching_brings_a_whole_model_and_nothing_else(self, source: CatalogSource, tmp_path: Path) -> None:
        if not self.fetches:
            pytest.skip("set `fetches` to test fetching a model")
        model = (await source.models())[0]
        events: list[ProgressEvent] = []
        await source.fetch(model, FolderStaging(tmp_path), HttpDownloader(), events.append)
        assert list(tmp_path.rglob("genai_config.json"))
        assert not list(tmp_path.rglob("*.part"))
        assert events
        for event in events:
            assert event.phase
            assert event.done >= 0
            assert event.done <= event.total or not event.total
