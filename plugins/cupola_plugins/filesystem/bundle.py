"""A model in one file, for machines without network: an uncompressed tar that starts with the manifest. Blocks."""

import contextlib
import hashlib
import io
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import msgspec

from cupola.cache import Progress
from cupola.catalog import RemoteFile
from cupola.downloads.files import target_paths
from cupola.errors import DownloadError, ModelFormatError
from cupola_plugins.filesystem import manifest as manifests
from cupola_plugins.filesystem.manifest import MANIFEST, FileRecord, Manifest
from cupola_plugins.filesystem.verification import Meter, difference

_READ_BYTES = 1 << 20
_MOST_MANIFEST_BYTES = 64 << 20
_UNFINISHED = ".part"


def write_bundle(root: Path, manifest: Manifest, file: Path, progress: Progress) -> None:
    """Write the model in `root` to a file and verify its digests. The file appears when it is complete.

    Raises:
        ModelFormatError: A file differs from its record.
        OSError: A file cannot be read, or the bundle cannot be written.
    """
    meter = Meter(progress, "export", manifest.size_bytes)
    unfinished = file.with_name(file.name + _UNFINISHED)
    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        with unfinished.open("wb") as out, tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
            data = manifests.encode(manifest)
            tar.addfile(_member(MANIFEST, len(data), manifest), io.BytesIO(data))
            for record in manifest.files:
                _add(tar, root / record.path, record, manifest, meter)
        manifests.flush(unfinished)
        unfinished.replace(file)
    finally:
        unfinished.unlink(missing_ok=True)


def read_bundle_manifest(file: Path) -> Manifest:
    """Read the manifest of a bundle and check that no path leads outside of the model's folder.

    Raises:
        ModelFormatError: The file is not a bundle, or has unsafe paths.
        OSError: The file cannot be read.
    """
    with _open_tar(file) as tar:
        first = tar.next()
        if first is None or first.name != MANIFEST or not first.isfile() or first.size > _MOST_MANIFEST_BYTES:
            raise ModelFormatError(path=str(file), detail="was not written by `cupola cache export`")
        try:
            manifest = manifests.decode(_content(tar, first).read())
            _target_paths(manifest, file.parent)
        except (msgspec.DecodeError, DownloadError) as error:
            raise ModelFormatError(path=str(file), detail=f"its manifest cannot be used: {error}") from error
    return manifest


def unpack_bundle(file: Path, manifest: Manifest, folder: Path, progress: Progress) -> None:
    """Unpack the files in the manifest, and no others, and verify each digest.

    Raises:
        ModelFormatError: A file is missing, occurs twice, is a link, or differs from its record.
        OSError: The folder cannot be written.
    """
    meter = Meter(progress, "import", manifest.size_bytes)
    records = {record.path: record for record in manifest.files}
    targets = _target_paths(manifest, folder)
    with _open_tar(file) as tar:
        tar.next()
        while (member := tar.next()) is not None:
            record = records.pop(member.name, None)
            if record is None or not member.isfile():
                detail = f"contains {member.name!r}, which is not in its manifest. Export the model again"
                raise ModelFormatError(path=str(file), detail=detail)
            fault = difference(record, *_extract(_content(tar, member), targets[record.path], meter))
            if fault:
                raise ModelFormatError(path=str(file), detail=f"is damaged: {fault}. Export or copy it again")
    if records:
        raise ModelFormatError(path=str(file), detail=f"is incomplete: {min(records)} is missing. Copy it again")


def _target_paths(manifest: Manifest, folder: Path) -> dict[str, Path]:
    files = [RemoteFile(record.path, record.size_bytes, "") for record in manifest.files]
    return {file.path: target for file, target in target_paths(files, manifest.model.id, folder)}


def _member(name: str, size: int, manifest: Manifest) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size, member.mtime, member.mode = size, manifest.committed_unix, 0o644
    return member


def _add(tar: tarfile.TarFile, path: Path, record: FileRecord, manifest: Manifest, meter: Meter) -> None:
    reader = _DigestingReader(path, meter)
    with contextlib.closing(reader):
        size = os.fstat(reader.file.fileno()).st_size
        if size == record.size_bytes:
            tar.addfile(_member(record.path, size, manifest), reader)
        if fault := difference(record, size, reader.digest.hexdigest()):
            raise ModelFormatError(path=str(path), detail=f"is damaged: {fault}. Run `cupola cache verify` for details")


class _DigestingReader(io.RawIOBase):
    def __init__(self, path: Path, meter: Meter) -> None:
        self.file = path.open("rb")
        self.digest = hashlib.sha256()
        self._meter = meter

    def read(self, size: int = -1) -> bytes:
        data = self.file.read(size)
        self.digest.update(data)
        self._meter.advance(len(data))
        return data

    def close(self) -> None:
        self.file.close()
        super().close()


def _extract(source: IO[bytes], target: Path, meter: Meter) -> tuple[int, str]:
    target.parent.mkdir(parents=True, exist_ok=True)
    size, digest = 0, hashlib.sha256()
    with target.open("wb") as out:
        while data := source.read(_READ_BYTES):
            digest.update(data)
            out.write(data)
            size += len(data)
            meter.advance(len(data))
    return size, digest.hexdigest()


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    content = tar.extractfile(member)
    assert content is not None
    return content


@contextlib.contextmanager
def _open_tar(file: Path) -> Iterator[tarfile.TarFile]:
    """Open an uncompressed tar file for reading."""
    try:
        with tarfile.open(file, "r:") as tar:
            yield tar
    except (tarfile.TarError, EOFError) as error:
        raise ModelFormatError(path=str(file), detail=f"is not a model file, or is damaged: {error}") from error
