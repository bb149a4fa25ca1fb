import numpy as np
import pytest
from gguf import GGMLQuantizationType as Kind
from gguf.quants import dequantize, quantize
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from cupola_plugins.gguf.quantization import Blocks, int4_blocks, int8_blocks, int8_rows

matrices = arrays.arrays(
    np.float32,
    st.tuples(st.integers(1, 5), st.integers(1, 150)),
    elements=st.floats(-100, 100, width=32, allow_subnormal=False),
)


def normal(rows=64, columns=192, seed=0):
    return np.random.default_rng(seed).standard_normal((rows, columns)).astype(np.float32)


def unpacked(values):
    return np.stack([values & 15, values >> 4], axis=-1).reshape(*values.shape[:-1], -1)


def dequantized(blocks: Blocks, columns):
    """Undo a quantisation by the format's definition."""
    if blocks.zero_points is None:
        values, zero_points = blocks.values.astype(np.float32), np.float32(128)
    else:
        values = unpacked(blocks.values).astype(np.float32)
        zero_points = unpacked(blocks.zero_points)[:, : values.shape[1], None].astype(np.float32)
    matrix = (values - zero_points) * blocks.scales[..., None]
    return matrix.reshape(len(matrix), -1)[:, :columns]


def per_block(matrix, block):
    padded = np.pad(matrix, ((0, 0), (0, -matrix.shape[1] % block)))
    return padded.reshape(len(matrix), -1, block)


def relative_error(result, matrix):
    return np.sqrt(((result - matrix) ** 2).mean() / (matrix**2).mean())


@given(matrices)
@settings(deadline=None)
def test_int8_rows_are_within_the_clipping_point_of_the_row(matrix):
    rows = int8_rows(matrix)
    error = np.abs(rows.values * rows.scales[:, None] - matrix)
    largest = np.abs(matrix).max(axis=1, keepdims=True)
    inside = np.abs(matrix) <= 127.5 * rows.scales[:, None]
    assert (error <= np.where(inside, 0.51 * rows.scales[:, None], 0.201 * largest) + 1e-8).all()


def test_int8_rows_clip_a_lonely_outlier_where_that_serves_the_others():
    matrix = np.random.default_rng(0).uniform(-1, 1, (3, 60_000)).astype(np.float32)
    matrix[1, 7] = 1.2
    rows = int8_rows(matrix)
    scale = np.abs(matrix).max(axis=1, keepdims=True) / 127
    plain = ((np.round(matrix / scale) * scale - matrix) ** 2).sum(axis=1)
    chosen = ((rows.values * rows.scales[:, None] - matrix) ** 2).sum(axis=1)
    assert np.allclose(chosen[[0, 2]], plain[[0, 2]])
    assert chosen[1] < 0.95 * plain[1]


@given(matrices)
@settings(deadline=None)
def test_int8_blocks_are_within_half_a_step(matrix):
    blocks = int8_blocks(matrix, 32)
    steps = np.repeat(blocks.scales, 32, axis=1)[:, : matrix.shape[1]]
    assert (np.abs(dequantized(blocks, matrix.shape[1]) - matrix) <= 0.501 * steps + 1e-8).all()


def test_int8_blocks_keep_q8_0_as_it_is():
    matrix = dequantize(quantize(normal(), Kind.Q8_0), Kind.Q8_0)
    assert relative_error(dequantized(int8_blocks(matrix, 32), 192), matrix) < 1e-6


@given(matrices, st.sampled_from([32, 64]))
@settings(deadline=None)
def test_int4_blocks_are_no_worse_than_sixteen_even_steps(matrix, block):
    """The plain way: from the smallest to the largest value of the block, zero included, in fifteen steps."""
    parts = per_block(matrix, block)
    low, high = np.minimum(parts.min(axis=2), 0), np.maximum(parts.max(axis=2), 0)
    scale = np.maximum(high - low, 1e-9)[..., None] / 15
    zero_point = np.round(-low[..., None] / scale)
    plain = (np.clip(np.round(parts / scale) + zero_point, 0, 15) - zero_point) * scale
    chosen = per_block(dequantized(int4_blocks(matrix, block), matrix.shape[1]), block)
    worst = ((plain - parts) ** 2).sum(axis=2)
    assert (((chosen - parts) ** 2).sum(axis=2) <= worst * 1.01 + 1e-5).all()


@pytest.mark.parametrize(("block", "bound"), [(32, 0.085), (64, 0.1)])
def test_int4_blocks_of_normal_weights_are_this_close(block, bound):
    matrix = normal(256, 576)
    assert relative_error(dequantized(int4_blocks(matrix, block), 576), matrix) < bound


def test_int8_of_normal_weights_is_this_close():
    matrix = normal(256, 576)
    rows = int8_rows(matrix)
    assert relative_error(rows.values * rows.scales[:, None], matrix) < 0.008
    assert relative_error(dequantized(int8_blocks(matrix, 32), 576), matrix) < 0.006


def test_a_matrix_of_zeros_stays_zero():
    zeros = np.zeros((3, 70), np.float32)
    assert not int8_rows(zeros).values.any()
    assert not dequantized(int8_blocks(zeros, 32), 70).any()
    assert not dequantized(int4_blocks(zeros, 32), 70).any()


def test_rows_do_not_influence_each_other_whatever_the_size_of_the_matrix():
    matrix = normal(1000, 576)
    for quantizer in (int8_rows, lambda rows: int8_blocks(rows, 32), lambda rows: int4_blocks(rows, 32)):
        whole, part = quantizer(matrix), quantizer(matrix[371:375])
        assert np.array_equal(whole.values[371:375], part.values)
        assert np.array_equal(whole.scales[371:375], part.scales)
