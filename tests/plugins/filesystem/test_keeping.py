"""What the filesystem cache can vouch for, and carry to other machines in one file."""

import io
import json
import shutil
import tarfile

import anyio
import pytest

from cupola.cache import ModelInfo
from cupola.errors import CacheError, DiskFullError, ModelFormatError
from cupola.testing.caches import FILES, MODEL, commit_model, write_files
from cupola_plugins.filesystem import FilesystemCache

pytestmark = pytest.mark.anyio
OTHER = ModelInfo(id="other-generic-cpu:3", alias="other", source="test", publisher="Somebody Else")


@pytest.fixture
def store(tmp_path):
    return FilesystemCache(tmp_path / "cache")


@pytest.fixture
async def bundle(store, tmp_path):
    """A file with the suite's model, which is in the cache no more."""
    await commit_model(store)
    await store.export(MODEL.id, tmp_path / "tiny.tar", ignore)
    await store.remove(MODEL.id)
    return tmp_path / "tiny.tar"


def ignore(event):
    pass


def foundry_model(store):
    """A model as Foundry Local leaves it: no digests."""
    folder = store.location / "Microsoft" / "phi-generic-cpu-2" / "v2"
    write_files(folder, {"genai_config.json": b"{}", "model.onnx": b"1234"})
    (folder / "inference_model.json").write_text('{"Name": "phi-generic-cpu:2"}')
    return folder


def rewritten(bundle, change):
    """Write a tar anew, with the members that `change` makes of the old ones: (name, bytes) pairs."""
    with tarfile.open(bundle) as tar:
        members = [(member.name, tar.extractfile(member).read()) for member in tar]
    with tarfile.open(bundle, "w", format=tarfile.PAX_FORMAT) as tar:
        for member in change(members):
            if isinstance(member, tarfile.TarInfo):
                tar.addfile(member)
                continue
            name, content = member
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return bundle


def with_path(members, path):
    """Put another path into the first record of the manifest, and name the member so too."""
    (manifest_name, manifest), (_, content), *rest = members
    changed = json.loads(manifest)
    changed["files"][0]["path"] = path
    return [(manifest_name, json.dumps(changed).encode()), (path, content), *rest]


def link(name):
    member = tarfile.TarInfo(name)
    member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
    return member


async def test_every_model_is_verified_also_one_with_a_damaged_manifest_and_foundry_locals(store):
    await commit_model(store)
    broken = await commit_model(store, OTHER)
    (broken.path / "cupola.manifest.json").write_text("{")
    foundry_model(store)
    results = {result.model_id: result for result in await store.verify(None, ignore)}
    assert set(results) == {MODEL.id, "", "phi-generic-cpu:2"}
    assert results[MODEL.id].faults == ()
    assert "cupola.manifest.json" in results[""].faults[0]
    assert results["phi-generic-cpu:2"].has_digests is False
    assert results["phi-generic-cpu:2"].faults == ()


async def test_each_file_that_differs_is_told_with_what_is_wrong(store):
    cached = await commit_model(store)
    (cached.path / "model.onnx").write_bytes(b"\1" * 100)
    (cached.path / "genai_config.json").write_bytes(b"{}{}")
    (cached.path / "deep" / "er" / "tokenizer.json").unlink()
    (result,) = await store.verify(MODEL.id, ignore)
    assert result.path == str(cached.path)
    faults = {fault.partition(":")[0]: fault for fault in result.faults}
    assert set(faults) == set(FILES)
    assert "other content" in faults["model.onnx"]
    assert "4 bytes instead of 2" in faults["genai_config.json"]
    assert "No such file" in faults["deep/er/tokenizer.json"]


async def test_verification_and_export_can_be_cancelled_and_leave_nothing(store, tmp_path):
    await commit_model(store, files={"genai_config.json": b"{}", "big": b"\0" * 40_000_000})
    for use in (store.verify(MODEL.id, lambda event: scope.cancel()),
                store.export(MODEL.id, tmp_path / "tiny.tar", lambda event: scope.cancel())):  # fmt: skip
        with anyio.CancelScope() as scope:
            await use
        assert scope.cancelled_caught
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]


async def test_a_bundle_is_a_plain_tar_with_the_manifest_first(bundle):
    with tarfile.open(bundle) as tar:
        assert tar.getnames() == ["cupola.manifest.json", *sorted(FILES)]


async def test_an_export_of_a_broken_model_is_refused_and_leaves_no_file(store, tmp_path):
    cached = await commit_model(store)
    (cached.path / "model.onnx").write_bytes(b"\1" * 100)
    (tmp_path / "tiny.tar").write_bytes(b"an older export")
    with pytest.raises(ModelFormatError, match="cache verify"):
        await store.export(MODEL.id, tmp_path / "tiny.tar", ignore)
    assert (tmp_path / "tiny.tar").read_bytes() == b"an older export"
    assert {path.name for path in tmp_path.iterdir()} == {"cache", "tiny.tar"}


async def test_an_export_that_cannot_be_written_is_a_cache_error(store, tmp_path):
    await commit_model(store)
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(CacheError, match="file"):
        await store.export(MODEL.id, tmp_path / "file" / "tiny.tar", ignore)


async def test_a_model_of_foundry_local_can_be_carried_too(store, tmp_path):
    folder = foundry_model(store)
    await store.export("phi-generic-cpu:2", tmp_path / "phi.tar", ignore)
    elsewhere = FilesystemCache(tmp_path / "elsewhere")
    cached = await elsewhere.import_file(tmp_path / "phi.tar", ignore)
    assert (cached.info.id, cached.info.alias) == ("phi-generic-cpu:2", "phi")
    assert (cached.path / "model.onnx").read_bytes() == (folder / "model.onnx").read_bytes()
    (result,) = await elsewhere.verify(None, ignore)
    assert (result.faults, result.has_digests) == ((), True)


async def test_a_model_whose_config_lies_deeper_keeps_its_shape(store, tmp_path):
    await commit_model(store, files={"v4/genai_config.json": b"{}", "README.md": b"hello"})
    await store.export(MODEL.id, tmp_path / "tiny.tar", ignore)
    cached = await FilesystemCache(tmp_path / "elsewhere").import_file(tmp_path / "tiny.tar", ignore)
    assert cached.path.name == "v4"
    assert (cached.path.parent / "README.md").read_bytes() == b"hello"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda members: members[1:], "not written by"),
        (lambda members: [("cupola.manifest.json", b"{"), *members[1:]], "manifest cannot be used"),
        (lambda members: with_path(members, "../escaped"), "leaves the model's folder"),
        (lambda members: with_path(members, "/absolute"), "leaves the model's folder"),
        (lambda members: with_path(members, "a\\b"), "leaves the model's folder"),
        (lambda members: [*members, ("stowaway.py", b"import os")], "not in its manifest"),
        (lambda members: [*members, members[-1]], "not in its manifest"),
        (lambda members: [members[0], link(members[1][0]), *members[2:]], "not in its manifest"),
        (lambda members: members[:-1], "is missing"),
        (lambda members: [*members[:-1], (members[-1][0], b"x" * len(members[-1][1]))], "other content"),
        (lambda members: [*members[:-1], (members[-1][0], b"longer than announced" * 10)], "bytes instead of"),
    ],
    ids=[
        "no manifest", "damaged manifest", "parent folder", "absolute", "backslash", "stowaway", "twice", "link",
        "not whole", "other content", "longer",
    ],
)  # fmt: skip
async def test_a_hostile_or_damaged_bundle_is_refused_and_leaves_nothing(store, bundle, tmp_path, change, reason):
    with pytest.raises(ModelFormatError) as caught:
        await store.import_file(rewritten(bundle, change), ignore)
    assert reason in str(caught.value)
    assert await store.list() == []
    assert {path.name for path in tmp_path.iterdir()} == {"cache", "tiny.tar"}
    left = [path for path in store.location.rglob("*") if path.is_file() and path.suffix != ".lock"]
    assert left == []


async def test_a_disk_that_is_too_small_for_a_bundle_is_noticed_before_the_work(store, bundle, monkeypatch):
    usage = shutil.disk_usage(store.location)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1))
    with pytest.raises(DiskFullError):
        await store.import_file(bundle, ignore)
    assert await store.list() == []


async def test_an_import_takes_progress_to_its_end_and_says_that_it_imports(store, bundle):
    events = []
    cached = await store.import_file(bundle, events.append)
    assert (events[-1].phase, events[-1].done, events[-1].total) == ("import", cached.size_bytes, cached.size_bytes)


async def test_a_broken_model_can_be_removed_by_its_id(store):
    cached = await commit_model(store)
    (cached.path / "model.onnx").write_bytes(b"")
    assert await store.find(MODEL.id) is None
    assert await store.remove(MODEL.id) is True
    assert not cached.path.exists()
