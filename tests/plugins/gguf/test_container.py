import contextlib
import re
from itertools import pairwise

import numpy as np
import pytest
from gguf import GGUFReader
from hypothesis import given, settings
from hypothesis import strategies as st

from cupola.errors import ModelFormatError
from cupola_plugins.gguf.container import GgufFile
from tiny_model import tiny_gguf, write_tiny_gguf


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return write_tiny_gguf(tmp_path_factory.mktemp("gguf") / "tiny.gguf")


def opened_with(tmp_path, content):
    path = tmp_path / "file.gguf"
    path.write_bytes(content)
    with GgufFile(path) as file:
        return file.metadata


def test_reads_what_the_reference_reader_reads(source):
    reference = GGUFReader(source)
    with GgufFile(source) as file:
        fields = {name: field.contents() for name, field in reference.fields.items() if not name.startswith("GGUF.")}
        assert file.metadata == fields
        assert list(file.tensors) == [tensor.name for tensor in reference.tensors]
        for tensor in reference.tensors:
            entry = file.tensors[tensor.name]
            assert entry.shape == tuple(map(int, reversed(tensor.shape)))
            assert file.read(entry).tobytes() == tensor.data.tobytes()


@pytest.mark.parametrize("content", [b"", b"GG", b"PK\x03\x04" + bytes(100), b"\x89PNG", bytes(64)])
def test_refuses_what_is_no_gguf(tmp_path, content):
    with pytest.raises(ModelFormatError, match="is not a GGUF file"):
        opened_with(tmp_path, content)


@pytest.mark.parametrize("path", ["missing.gguf", "."])
def test_refuses_what_cannot_be_read(tmp_path, path):
    with pytest.raises(ModelFormatError, match="cannot be read"):
        GgufFile(tmp_path / path)


@pytest.mark.parametrize("version", [1, 4, 1000])
def test_refuses_versions_it_does_not_know(tmp_path, version):
    with pytest.raises(ModelFormatError, match=f"GGUF version {version}"):
        opened_with(tmp_path, b"GGUF" + version.to_bytes(4, "little") + bytes(16))


def test_refuses_big_endian_files(tmp_path):
    with pytest.raises(ModelFormatError, match="big-endian"):
        opened_with(tmp_path, b"GGUF" + (3).to_bytes(4, "big") + bytes(16))


@given(st.data())
@settings(deadline=None, max_examples=150)
def test_every_truncation_is_refused(source, tmp_path_factory, data):
    content = source.read_bytes()
    header = content.rfind(b"blk.1") + 100
    length = data.draw(st.integers(0, header) | st.integers(0, len(content) - 1))
    with pytest.raises(ModelFormatError, match=r"cut short|not a GGUF file"):
        opened_with(tmp_path_factory.mktemp("cut"), content[:length])


@given(st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.binary(min_size=1, max_size=9)), min_size=1))
@settings(deadline=None, max_examples=200)
def test_damage_is_read_or_refused_but_nothing_else(source, tmp_path_factory, damage):
    content = bytearray(source.read_bytes())
    header = content.rfind(b"blk.1") + 100
    for place, replacement in damage:
        start = int(place * header)
        content[start : start + len(replacement)] = replacement
    with contextlib.suppress(ModelFormatError):
        opened_with(tmp_path_factory.mktemp("damaged"), bytes(content))


@pytest.mark.parametrize("offset", [8, 16], ids=["tensors", "metadata entries"])
def test_an_absurd_count_is_refused_before_anything_is_allocated(tmp_path, source, offset):
    content = bytearray(source.read_bytes())
    content[offset : offset + 8] = (1 << 62).to_bytes(8, "little")
    with pytest.raises(ModelFormatError, match="more than the file can hold"):
        opened_with(tmp_path, bytes(content))


def test_an_absurd_list_is_refused_before_anything_is_allocated(tmp_path, source):
    content = bytearray(source.read_bytes())
    place = content.index(b"token_type") + len(b"token_type") + 4 + 4  # behind the key: the kind, and that of elements
    content[place : place + 8] = (1 << 61).to_bytes(8, "little")
    with pytest.raises(ModelFormatError, match="more than the file can hold"):
        opened_with(tmp_path, bytes(content))


@pytest.mark.parametrize(
    ("one", "other"), [(b"bos_token_id", b"eos_token_id"), (b"blk.0.attn_q.weight", b"blk.0.attn_k.weight")]
)
def test_a_name_used_twice_is_refused(tmp_path, source, one, other):
    with pytest.raises(ModelFormatError, match="occurs twice"):
        opened_with(tmp_path, source.read_bytes().replace(one, other))


def test_tensors_do_not_overlap_and_lie_in_the_file(source):
    with GgufFile(source) as file:
        spans = sorted((entry.offset, entry.offset + entry.size_bytes) for entry in file.tensors.values())
    assert all(end <= start for (_, end), (start, _) in pairwise(spans))
    assert spans[-1][1] <= source.stat().st_size


def test_a_file_that_shrinks_while_it_is_read_is_an_error(tmp_path):
    path = write_tiny_gguf(tmp_path / "tiny.gguf")
    with GgufFile(path) as file:
        path.write_bytes(path.read_bytes()[:20_000])
        with pytest.raises(ModelFormatError, match="became shorter"):
            file.read(file.tensors["blk.1.ffn_down.weight"])


def test_all_kinds_of_metadata_are_read(tmp_path):
    gguf = tiny_gguf()
    gguf.metadata |= {"a.flag": True, "a.real": 0.5, "a.list": [1, 2, 3], "a.words": ["x", "é"]}
    with GgufFile(gguf.write(tmp_path / "tiny.gguf")) as file:
        found = {key: value for key, value in file.metadata.items() if key.startswith("a.")}
    assert found == {"a.flag": True, "a.real": 0.5, "a.list": [1, 2, 3], "a.words": ["x", "é"]}


def test_text_that_is_not_utf8_is_refused(tmp_path, source):
    content = re.sub(
        b"general.name(.{12})tiny", b"general.name\\1\xff\xfe\xfd\xfc", source.read_bytes(), flags=re.DOTALL
    )
    with pytest.raises(ModelFormatError, match="not UTF-8"):
        opened_with(tmp_path, content)


def test_the_data_of_a_tensor_is_read_only_when_asked_for(source):
    with GgufFile(source) as file:
        entry = file.tensors["output_norm.weight"]
        assert file.read(entry).view(np.float32).shape == entry.shape
