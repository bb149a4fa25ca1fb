"""How the weights of an imported model lie on disk, and with which kernels they are multiplied."""

from enum import StrEnum


class Layout(StrEnum):
    """A name for every way to store the weights. All of them keep an 8-bit embedding in blocks of 32.

    Figures are for SmolLM2-135M from a 4-bit GGUF, on two cores with AVX512-VNNI.
    """

    INT8_ROWS = "int8-rows"
    """8-bit weights with a scale per output channel, 8-bit activations with a scale per token: the integer GEMM.

    Fastest with several rows and for prompts (4 times the int4 blocks), and nine times closer to the source than they.
    """

    INT8_BLOCKS = "int8-blocks"
    """8-bit weights in blocks of 32: closest to the source, and lossless for what the source holds as Q8_0."""

    INT4_BLOCKS = "int4-blocks"
    """4-bit weights in blocks of 32: smallest files; fastest for a single row of a large model."""

    INT4_BLOCKS_64 = "int4-blocks-64"
    """4-bit weights in blocks of 64: faster than blocks of 32 and a little further from the source."""
