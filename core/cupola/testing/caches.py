"""Conformance tests for cache stores: subclass `CacheStoreSuite` and provide an empty store.

Example::

    from cupola.testing import CacheStoreSuite

    class TestMyStore(CacheStoreSuite):
        @pytest.fixture
        def store(self, tmp_path):
            return MyStore(tmp_path)
"""

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import anyio
import pytest

from cupola.contracts import CachedModel, CacheStore, ModelInfo, ProgressEvent, Staging
from cupola.errors import CacheError, DiskFullError, ModelFormatError

MODEL = ModelInfo(id="tiny-generic-cpu:1", alias="tiny", source="suite", publisher="Publisher", context_length=512)
FILES: Mapping[str, bytes] = {"genai_config.json": b"{}", "model.onnx": b"\0" * 100, "deep/er/tokenizer.json": b"{ }"}
HOSTILE = ("..", "../../up", "/root", "C:\\drive", "a\\b", "con", ".staging", " ", "name.", "x" * 300, "ünï/✓", "a%2Fb")
_SOON_S = 10.0
_A_WHILE_S = 0.2


def write_files(folder: Path, files: Mapping[str, bytes] = FILES) -> None:
    """Write files; `files` maps relative paths to contents."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


async def commit_model(store: CacheStore, model: ModelInfo = MODEL, files: Mapping[str, bytes] = FILES) -> CachedModel:
    """Add a model to a store."""
    async with await store.reserve(model) as staging:
        write_files(staging.path, files)
        return await staging.commit()


@pytest.mark.anyio
class CacheStoreSuite:
    """Conformance tests for cache stores. Override the fixture `store`, and `anyio_backend` to test on trio.

    Attributes:
        verifies: Set to False if the store has no `verify`.
        exports: Set to False if it has no `export` and `import_file`.
    """

    verifies: ClassVar[bool] = True
    exports: ClassVar[bool] = True

    @pytest.fixture
    def anyio_backend(self) -> str:
        """Return the event loop to test on."""
        return "asyncio"

    @pytest.fixture
    def store(self) -> CacheStore:
        """Return an empty, writable store. Each test gets a new one."""
        raise NotImplementedError("override the fixture `store`")

    async def test_it_has_a_name_and_an_absolute_location(self, store: CacheStore) -> None:
        assert store.name
        assert store.location.is_absolute()

    async def test_an_empty_store_lists_and_finds_nothing(self, store: CacheStore) -> None:
        assert list(await store.list()) == []
        assert await store.find(MODEL.id) is None

    async def test_a_committed_model_is_visible_at_once(self, store: CacheStore) -> None:
        cached = await commit_model(store)
        assert cached.info == MODEL
        assert cached.size_bytes == sum(len(content) for content in FILES.values())
        for name, content in FILES.items():
            assert (cached.path / name).read_bytes() == content
        assert await store.find(MODEL.id) == cached
        assert list(await store.list()) == [cached]

    async def test_nothing_is_visible_before_the_commit(self, store: CacheStore) -> None:
        async with await store.reserve(MODEL) as staging:
            write_files(staging.path)
            assert await store.find(MODEL.id) is None
            assert list(await store.list()) == []
        assert await store.find(MODEL.id) is None

    async def test_the_model_lies_where_its_genai_config_is(self, store: CacheStore) -> None:
        cached = await commit_model(store, files={"v4/genai_config.json": b"{}", "README.md": b"hello"})
        assert cached.path.name == "v4"
        assert await store.find(MODEL.id) == cached

    async def test_what_was_staged_waits_for_the_next_reservation(self, store: CacheStore) -> None:
        async with await store.reserve(MODEL) as staging:
            write_files(staging.path, {"half.part": b"1234"})
        async with await store.reserve(MODEL) as staging:
            assert (staging.path / "half.part").read_bytes() == b"1234"

    async def test_leaving_by_an_error_gives_the_reservation_back(self, store: CacheStore) -> None:
        async def fail() -> None:
            async with await store.reserve(MODEL):
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await fail()
        await self._reserve_soon(store)

    async def test_discarding_empties_the_staging_folder(self, store: CacheStore) -> None:
        async with await store.reserve(MODEL) as staging:
            write_files(staging.path)
            await staging.discard()
            assert list(staging.path.rglob("*")) == []
            write_files(staging.path, {"genai_config.json": b"{}"})
        async with await store.reserve(MODEL) as staging:
            assert [path.name for path in staging.path.iterdir()] == ["genai_config.json"]

    async def test_a_reservation_is_exclusive_and_waiting_for_it_can_be_cancelled(self, store: CacheStore) -> None:
        async with await store.reserve(MODEL):
            with anyio.move_on_after(_A_WHILE_S) as patience:
                await store.reserve(MODEL)
            assert patience.cancelled_caught
        await self._reserve_soon(store)

    async def test_who_waits_gets_the_reservation_when_it_is_released(self, store: CacheStore) -> None:
        order = []

        async def take(number: int) -> None:
            async with await store.reserve(MODEL):
                order.append(number)
                await anyio.lowlevel.checkpoint()
                order.append(number)

        with anyio.fail_after(_SOON_S):
            async with anyio.create_task_group() as tasks:
                for number in range(4):
                    tasks.start_soon(take, number)
        assert sorted(order[::2]) == [0, 1, 2, 3]
        assert order[::2] == order[1::2]

    async def test_different_models_are_staged_side_by_side(self, store: CacheStore) -> None:
        other = ModelInfo(id="tiny-generic-cpu:2", alias="tiny", source="suite", publisher="Publisher")
        async with await store.reserve(MODEL) as first:
            with anyio.fail_after(_SOON_S):
                second = await store.reserve(other)
            assert first.path != second.path
            await second.release()

    async def test_a_commit_ends_the_reservation_and_release_stays_harmless(self, store: CacheStore) -> None:
        staging = await store.reserve(MODEL)
        write_files(staging.path)
        await staging.commit()
        again = await self._reserve_soon(store, keep=True)
        assert list(again.path.iterdir()) == []
        write_files(again.path, {"mine": b"1"})
        await staging.release()
        assert (again.path / "mine").exists()
        await again.release()

    async def test_a_second_commit_replaces_the_first(self, store: CacheStore) -> None:
        await commit_model(store)
        cached = await commit_model(store, files={"genai_config.json": b"[]"})
        assert list(await store.list()) == [cached]
        assert (cached.path / "genai_config.json").read_bytes() == b"[]"
        assert not (cached.path / "model.onnx").exists()

    async def test_a_folder_without_genai_config_is_refused(self, store: CacheStore) -> None:
        with pytest.raises(ModelFormatError):
            await commit_model(store, files={"model.onnx": b"1"})
        assert list(await store.list()) == []
        await self._reserve_soon(store)

    async def test_unfinished_files_do_not_become_part_of_a_model(self, store: CacheStore) -> None:
        cached = await commit_model(store, files={**FILES, "old.bin.part": b"12"})
        assert not list(cached.path.rglob("*.part"))

    async def test_removing_a_model_makes_it_disappear(self, store: CacheStore) -> None:
        cached = await commit_model(store)
        assert await store.remove(MODEL.id) is True
        assert not cached.path.exists()
        assert await store.find(MODEL.id) is None
        assert list(await store.list()) == []
        assert await store.remove(MODEL.id) is False
        await commit_model(store)

    async def test_a_model_that_lost_a_file_is_not_listed(self, store: CacheStore) -> None:
        cached = await commit_model(store)
        (cached.path / "model.onnx").unlink()
        assert list(await store.list()) == []
        assert await store.find(MODEL.id) is None

    async def test_a_model_that_lost_bytes_is_not_listed(self, store: CacheStore) -> None:
        cached = await commit_model(store)
        (cached.path / "model.onnx").write_bytes(b"\0" * 99)
        assert list(await store.list()) == []

    @pytest.mark.parametrize("name", HOSTILE)
    async def test_no_name_escapes_the_store(self, store: CacheStore, name: str) -> None:
        for model in (
            ModelInfo(id=f"{name}:1", alias="x", source="suite", publisher="Publisher"),
            ModelInfo(id="plain:1", alias="x", source="suite", publisher=name),
        ):
            cached = await commit_model(store, model)
            assert cached.path.resolve().is_relative_to(store.location.resolve())
            assert await store.find(model.id) == cached
        assert len(await store.list()) == 2

    async def test_names_that_look_alike_stay_apart(self, store: CacheStore) -> None:
        ids = ("a/b:1", "a_b:1", "a%2Fb:1", "a-1:2", "a:1-2", "a:12", "a.b:1", "a b:1")
        for model_id in ids:
            await commit_model(store, ModelInfo(id=model_id, alias="a", source="suite", publisher="Publisher"))
        assert {cached.info.id for cached in await store.list()} == set(ids)

    async def test_a_model_larger_than_the_disk_is_refused(self, store: CacheStore) -> None:
        huge = ModelInfo(id=MODEL.id, alias="tiny", source="suite", publisher="Publisher", size_bytes=10**18)
        with pytest.raises(DiskFullError) as caught:
            await store.reserve(huge)
        assert caught.value.needed_bytes > caught.value.free_bytes > 0
        await self._reserve_soon(store)

    async def test_a_whole_model_passes_verification_and_progress_reaches_its_end(self, store: CacheStore) -> None:
        self._need(self.verifies)
        cached = await commit_model(store)
        events: list[ProgressEvent] = []
        (result,) = await store.verify(MODEL.id, events.append)
        assert (result.model_id, result.faults, result.has_digests) == (MODEL.id, (), True)
        assert (events[-1].done, events[-1].total) == (cached.size_bytes, cached.size_bytes)
        assert [event.done for event in events] == sorted(event.done for event in events)

    async def test_verification_names_the_file_that_differs_though_its_size_does_not(self, store: CacheStore) -> None:
        self._need(self.verifies)
        cached = await commit_model(store)
        (cached.path / "model.onnx").write_bytes(b"\0" * 99 + b"\1")
        (result,) = await store.verify(None, _ignore)
        assert len(result.faults) == 1
        assert "model.onnx" in result.faults[0]

    async def test_verification_reports_models_that_are_in_no_listing(self, store: CacheStore) -> None:
        self._need(self.verifies)
        cached = await commit_model(store)
        (cached.path / "model.onnx").unlink()
        (result,) = await store.verify(MODEL.id, _ignore)
        assert "model.onnx" in result.faults[0]
        assert await store.remove(MODEL.id) is True
        assert list(await store.verify(None, _ignore)) == []

    async def test_an_exported_model_comes_back_byte_for_byte(self, store: CacheStore, tmp_path: Path) -> None:
        self._need(self.exports)
        first = await commit_model(store)
        await store.export(MODEL.id, tmp_path / "out" / "tiny.file", _ignore)
        assert await store.import_file(tmp_path / "out" / "tiny.file", _ignore) == first  # it is there already
        await store.remove(MODEL.id)
        again = await store.import_file(tmp_path / "out" / "tiny.file", _ignore)
        assert again == first
        assert {name: (again.path / name).read_bytes() for name in FILES} == FILES
        assert list(await store.list()) == [again]

    async def test_a_damaged_export_leaves_nothing(self, store: CacheStore, tmp_path: Path) -> None:
        self._need(self.exports)
        await commit_model(store)
        await store.export(MODEL.id, tmp_path / "tiny.file", _ignore)
        await store.remove(MODEL.id)
        content = (tmp_path / "tiny.file").read_bytes()
        for damaged in (content[: len(content) // 10], b"", b"something else"):
            (tmp_path / "bad.file").write_bytes(damaged)
            with pytest.raises(ModelFormatError):
                await store.import_file(tmp_path / "bad.file", _ignore)
        assert list(await store.list()) == []
        staging = await self._reserve_soon(store, keep=True)
        assert list(staging.path.iterdir()) == []
        await staging.release()

    async def test_a_model_that_is_not_there_cannot_be_exported(self, store: CacheStore, tmp_path: Path) -> None:
        self._need(self.exports)
        with pytest.raises(CacheError):
            await store.export(MODEL.id, tmp_path / "tiny.file", _ignore)
        assert not (tmp_path / "tiny.file").exists()

    @staticmethod
    def _need(ability: bool) -> None:
        if not ability:
            pytest.skip("the store does not support it")

    async def _reserve_soon(self, store: CacheStore, *, keep: bool = False) -> Staging:
        with anyio.fail_after(_SOON_S):
            staging = await store.reserve(MODEL)
        if not keep:
            await staging.release()
        return staging


def _ignore(event: ProgressEvent) -> None:
    """Ignore progress."""
