"""Names and sizes: which tensors of the checkpoint become which weights of the graph."""

from typing import NamedTuple

from cupola_plugins.gguf.architecture import Hyperparameters
from cupola_plugins.gguf.checkpoint import EMBEDDING, HEAD

EMBEDDING_WEIGHTS = "embedding"
FINAL_NORM_WEIGHTS = "final_norm"
ROTARY_COS, ROTARY_SIN = "rotary.cos", "rotary.sin"


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
