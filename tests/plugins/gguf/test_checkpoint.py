import numpy as np
import pytest
from gguf import GGMLQuantizationType as Kind
from gguf.constants import GGML_QUANT_SIZES
from gguf.quants import dequantize, quantize

from cupola.errors import ModelFormatError
from cupola_plugins.gguf.checkpoint import EMBEDDING, Checkpoint
from cupola_plugins.gguf.container import GgufFile
from tiny_model import TinySizes, tiny_gguf, tiny_weights


@pytest.fixture
def opened(tmp_path):
    """A function that writes what a test changed and reads it back."""
    files = []

    def open_gguf(gguf):
        files.append(GgufFile(gguf.write(tmp_path / f"{len(files)}.gguf")))
        return Checkpoint(files[-1])

    yield open_gguf
    for file in files:
        file.close()


@pytest.fixture
def refusal(opened):
    """A function that returns why a changed file was refused."""

    def why(gguf):
        with pytest.raises(ModelFormatError) as caught:
            opened(gguf)
        assert caught.value.path.endswith(".gguf")
        return caught.value.detail

    return why


@pytest.mark.parametrize(
    "kind", [Kind.F32, Kind.F16, Kind.BF16, Kind.Q4_0, Kind.Q4_1, Kind.Q5_0, Kind.Q5_1, Kind.Q8_0], ids=lambda k: k.name
)
def test_weights_come_back_in_the_order_they_had_before_the_converter(opened, kind):
    checkpoint = opened(tiny_gguf(seed=3, kind=kind))
    for name, values in tiny_weights(TinySizes(), seed=3).items():
        if values.ndim == 1:
            assert np.array_equal(checkpoint.vector(name), values)
        else:
            assert np.array_equal(checkpoint.matrix(name), dequantize(quantize(values, kind), kind)), name


@pytest.mark.parametrize(
    "kind",
    [Kind.Q2_K, Kind.Q3_K, Kind.Q4_K, Kind.Q5_K, Kind.Q6_K, Kind.IQ4_NL, Kind.IQ4_XS],
    ids=lambda k: k.name,
)
def test_types_that_only_llama_cpp_itself_writes_are_read(opened, kind):
    gguf = tiny_gguf(TinySizes(hidden=256))
    block, block_bytes = GGML_QUANT_SIZES[kind]
    raw = np.full((len(gguf.tensors["blk.0.ffn_gate.weight"]), 256 // block * block_bytes), 0x11, np.uint8)
    gguf.tensors["blk.0.ffn_gate.weight"], gguf.kinds["blk.0.ffn_gate.weight"] = raw, kind
    assert np.array_equal(opened(gguf).matrix("blk.0.ffn_gate.weight"), dequantize(raw, kind))


def test_several_matrices_come_one_below_the_other(opened):
    weights = tiny_weights(TinySizes())
    names = [f"blk.0.attn_{part}.weight" for part in "qkv"]
    stacked = opened(tiny_gguf(kind=Kind.F32)).matrix(*names)
    assert np.array_equal(stacked, np.concatenate([weights[name] for name in names]))


def test_an_embedding_in_q8_0_is_taken_exactly(opened):
    checkpoint = opened(tiny_gguf(kind=Kind.Q8_0))
    blocks = checkpoint.exact_blocks(EMBEDDING)
    assert blocks is not None
    values = (blocks.values.astype(np.float32) - 128) * blocks.scales[..., None]
    assert np.array_equal(values.reshape(len(values), -1), checkpoint.matrix(EMBEDDING))


def test_an_embedding_in_another_type_is_not_called_exact(opened):
    assert opened(tiny_gguf(kind=Kind.F16)).exact_blocks(EMBEDDING) is None


@pytest.mark.parametrize("architecture", ["qwen2moe", "gemma3n", "bert"])
def test_other_architectures_are_refused_by_name(refusal, architecture):
    gguf = tiny_gguf()
    gguf.metadata["general.architecture"] = architecture
    assert f"architecture {architecture!r}" in refusal(gguf)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("rope.scaling.type", "linear"),
        ("rope.scaling.type", "yarn"),
        ("rope.scaling.factor", 8.0),
        ("attention.sliding_window", 4096),
        ("attention.causal", False),
        ("expert_count", 8),
        ("logit_scale", 0.5),
        ("something.new", 1),
    ],
)
def test_metadata_that_would_change_answers_is_refused(refusal, key, value):
    gguf = tiny_gguf()
    gguf.metadata[f"llama.{key}"] = value
    assert f"llama.{key} = {value!r}" in refusal(gguf)


@pytest.mark.parametrize(
    ("key", "value"), [("rope.scaling.type", "none"), ("expert_count", 0), ("attention.causal", True)]
)
def test_metadata_that_changes_nothing_is_accepted(opened, key, value):
    gguf = tiny_gguf()
    gguf.metadata[f"llama.{key}"] = value
    assert opened(gguf).hyperparameters.layers == 2


@pytest.mark.parametrize(
    "key", ["block_count", "embedding_length", "feed_forward_length", "attention.head_count", "context_length"]
)
@pytest.mark.parametrize("value", [None, 0, "many", 1.5, True, [1, 2]])
def test_sizes_that_are_missing_or_nonsense_are_refused(refusal, key, value):
    gguf = tiny_gguf()
    if value is None:
        del gguf.metadata[f"llama.{key}"]
    else:
        gguf.metadata[f"llama.{key}"] = value
    assert f"llama.{key}" in refusal(gguf)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"attention.head_count_kv": 3}, "not a multiple of 3 key-value heads"),
        ({"attention.key_length": 24, "attention.value_length": 24, "rope.dimension_count": 24}, "multiple of 16"),
        ({"attention.value_length": 32}, "differ in size"),
        ({"rope.dimension_count": 8}, "rotates only part"),
        ({"context_length": 1 << 30}, "longer than"),
        ({"vocab_size": 7}, "do not agree"),
        ({"embedding_length": 80}, "multiple of 32"),
        ({"block_count": 1 << 31}, "declares 2147483648 layers"),
        ({"attention.layer_norm_rms_epsilon": 0.0}, "positive number"),
        ({"rope.freq_base": float("inf")}, "positive number"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_sizes_that_do_not_go_together_are_refused(refusal, changes, reason):
    gguf = tiny_gguf()
    gguf.metadata |= {f"llama.{key}": value for key, value in changes.items()}
    assert reason in refusal(gguf)


@pytest.mark.parametrize("key", ["attention.head_count_kv", "attention.key_length", "rope.freq_base", "vocab_size"])
def test_sizes_with_a_default_may_be_missing(opened, key):
    gguf = tiny_gguf(TinySizes(kv_heads=4))
    del gguf.metadata[f"llama.{key}"]
    sizes = opened(gguf).hyperparameters
    assert (sizes.kv_heads, sizes.head_size, sizes.rope_base) == (4, 16, 10_000.0)


@pytest.mark.parametrize("name", ["token_embd.weight", "output_norm.weight", "blk.1.ffn_down.weight"])
def test_a_missing_tensor_is_refused(refusal, name):
    gguf = tiny_gguf()
    del gguf.tensors[name]
    assert f"has no tensor {name!r}" in refusal(gguf)


@pytest.mark.parametrize("name", ["blk.0.attn_q.bias", "rope_freqs.weight", "blk.0.attn_q_norm.weight"])
def test_a_tensor_that_would_be_ignored_is_refused(refusal, name):
    gguf = tiny_gguf()
    gguf.tensors[name] = np.ones(64, np.float32)
    assert name in refusal(gguf)


def test_a_tensor_of_another_shape_is_refused(refusal):
    gguf = tiny_gguf()
    gguf.tensors["blk.1.ffn_down.weight"] = np.zeros((64, 128), np.float32)
    assert "(64, 128); expected (64, 96)" in refusal(gguf)


def test_a_tensor_type_that_cannot_be_read_is_refused(refusal):
    gguf = tiny_gguf(TinySizes(hidden=256))
    gguf.tensors["blk.0.ffn_gate.weight"] = np.zeros((96, 54), np.uint8)
    gguf.kinds["blk.0.ffn_gate.weight"] = Kind.TQ1_0
    assert "type TQ1_0" in refusal(gguf)


def test_weights_that_are_no_numbers_are_refused_when_they_are_read(opened):
    gguf = tiny_gguf(kind=Kind.F32)
    gguf.tensors["blk.0.ffn_gate.weight"][3, 5] = np.nan
    with pytest.raises(ModelFormatError, match=r"blk\.0\.ffn_gate\.weight.*infinite or NaN"):
        opened(gguf).matrix("blk.0.ffn_gate.weight")


def test_damaged_scales_are_refused_when_they_are_read(opened):
    gguf = tiny_gguf()
    raw = np.full((len(gguf.tensors[EMBEDDING]), 64 // 32 * 34), 0xFF, np.uint8)
    gguf.tensors[EMBEDDING] = raw
    checkpoint = opened(gguf)
    with pytest.raises(ModelFormatError, match="infinite or NaN"):
        checkpoint.exact_blocks(EMBEDDING)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [({"general.type": "adapter"}, "no language model"), ({"split.count": 3}, "llama-gguf-split --merge")],
)
def test_files_that_are_only_a_part_of_a_model_are_refused(refusal, changes, reason):
    gguf = tiny_gguf()
    gguf.metadata |= changes
    assert reason in refusal(gguf)
