"""Names and sizes: which tensors of the checkpoint become which weights of the graph."""

from collections.abc import Iterator
from typing import Literal, NamedTuple

from cupola_plugins.gguf.architecture import Hyperparameters
from cupola_plugins.gguf.checkpoint import EMBEDDING, HEAD

EMBEDDING_WEIGHTS = "embedding"
FINAL_NORM_WEIGHTS = "final_norm"
ROTARY_COS, ROTARY_SIN = "rotary.cos", "rotary.sin"
LOCAL_ROTARY_COS, LOCAL_ROTARY_SIN = "rotary.local.cos", "rotary.local.sin"


class Matrix(NamedTuple):
    """A matrix [rows, columns] of the graph, stacked from tensors of the checkpoint."""

    name: str
    sources: tuple[str, ...]
    rows: int
    columns: int


class Layer(NamedTuple):
    """The matrices of one layer. Those that read the same input are one, for fewer and larger products."""

    qkv: Matrix
    attention_output: Matrix
    gate_up: Matrix
    down: Matrix


def layer_matrices(sizes: Hyperparameters, layer: int) -> Layer:
    """Return the matrices of a layer."""
    queries, keys = sizes.heads * sizes.head_size, sizes.kv_heads * sizes.head_size

    def matrix(name: str, rows: int, columns: int, *sources: str) -> Matrix:
        tensors = tuple(f"blk.{layer}.{source}.weight" for source in sources)
        return Matrix(f"layer.{layer}.{name}", tensors, rows, columns)

    return Layer(
        qkv=matrix("qkv", queries + 2 * keys, sizes.hidden, "attn_q", "attn_k", "attn_v"),
        attention_output=matrix("attention_output", sizes.hidden, queries, "attn_output"),
        gate_up=matrix("gate_up", 2 * sizes.intermediate, sizes.hidden, "ffn_gate", "ffn_up"),
        down=matrix("down", sizes.hidden, sizes.intermediate, "ffn_down"),
    )


def head_matrix(sizes: Hyperparameters, *, own: bool) -> Matrix:
    """Return the output matrix, which may be the embedding."""
    return Matrix("head", (HEAD if own else EMBEDDING,), sizes.vocabulary, sizes.hidden)


def attention_norm(layer: int) -> str:
    """Name the norm before a layer's attention."""
    return f"layer.{layer}.attention_norm"


def mlp_norm(layer: int) -> str:
    """Name the norm before a layer's MLP."""
    return f"layer.{layer}.mlp_norm"


class Vector(NamedTuple):
    """A vector of the graph, put together from tensors of the checkpoint."""

    name: str
    sources: tuple[str, ...]
    size: int


def layer_vectors(sizes: Hyperparameters, layer: int) -> Iterator[Vector]:
    """Iterate over the norms and biases of a layer."""
    architecture, block = sizes.architecture, f"blk.{layer}."
    yield Vector(attention_norm(layer), (block + "attn_norm.weight",), sizes.hidden)
    yield Vector(mlp_norm(layer), (block + "ffn_norm.weight",), sizes.hidden)
    if architecture.biases:
        biases = tuple(f"{block}attn_{part}.bias" for part in "qkv")
        yield Vector(qkv_bias(layer), biases, (sizes.heads + 2 * sizes.kv_heads) * sizes.head_size)
    if architecture.normalizes_heads:
        yield Vector(head_norm(layer, "q"), (block + "attn_q_norm.weight",), sizes.head_size)
        yield Vector(head_norm(layer, "k"), (block + "attn_k_norm.weight",), sizes.head_size)
    if architecture.normalizes_results:
        yield Vector(attention_result_norm(layer), (block + "post_attention_norm.weight",), sizes.hidden)
        yield Vector(mlp_result_norm(layer), (block + "post_ffw_norm.weight",), sizes.hidden)


def qkv_bias(layer: int) -> str:
    """Name the bias of queries, keys and values."""
    return f"layer.{layer}.qkv.bias"


def head_norm(layer: int, part: Literal["q", "k"]) -> str:
    """Name the norm of each head of queries or keys."""
    return f"layer.{layer}.{part}_norm"


def attention_result_norm(layer: int) -> str:
    """Name the norm behind a layer's attention."""
    return f"layer.{layer}.attention_result_norm"


def mlp_result_norm(layer: int) -> str:
    """Name the norm behind a layer's MLP."""
    return f"layer.{layer}.mlp_result_norm"
