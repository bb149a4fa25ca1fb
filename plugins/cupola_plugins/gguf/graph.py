"""The decoder graph, with the operators that the model builder of onnxruntime-genai emits for these architectures.

The operators of the domain com.microsoft are specified in onnxruntime's docs/ContribOperators.md. Dimensions in
docstrings: B batch rows, S new tokens per row, T past and new tokens per row, P picked positions.
"""

from collections.abc import Mapping
from enum import Enum

import numpy as np
import onnx
from onnx import TensorProto, helper

from cupola_plugins.gguf import linear
from cupola_plugins.gguf.architecture import Hyperparameters
from cupola_plugins.gguf.files import Layout
from cupola_plugins.gguf.onnx_model import CONTRIB, Nodes
from cupola_plugins.gguf.quantization import EMBEDDING_BLOCK
from cupola_plugins.gguf.weights import (
    EMBEDDING_WEIGHTS,
    FINAL_NORM_WEIGHTS,
    LOCAL_ROTARY_COS,
    LOCAL_ROTARY_SIN,
    ROTARY_COS,
    ROTARY_SIN,
    attention_norm,
    attention_result_norm,
    head_matrix,
    head_norm,
    layer_matrices,
    mlp_norm,
    mlp_result_norm,
    qkv_bias,
)

PAST_KEY, PAST_VALUE = "past_key_values.%d.key", "past_key_values.%d.value"
PRESENT_KEY, PRESENT_VALUE = "present.%d.key", "present.%d.value"
LAYOUT_PROPERTY = "cupola.layout"


class Logits(Enum):
    """The positions for which a graph computes logits."""

    ALL = "all"
    """Every position: float32 [B, S, vocabulary], the interface of onnxruntime-genai."""

    PICKED = "picked"
    """The positions in the input `logits_idx`, int64 [P], counted in the flattened [B * S].

    The logits are float32 [P, vocabulary]; P > 0.
    """


def build_graph(
    sizes: Hyperparameters, layout: Layout, weights: Mapping[str, onnx.TensorProto], logits: Logits
) -> onnx.ModelProto:
    """Build the graph of a decoder, whose weights `store_weights` wrote with the same layout.

    Inputs are `input_ids` int64 [B, S], `attention_mask` int64 [B, T], and for each layer the past keys and values,
    float32 [B, kv_heads, T - S, head_size]; outputs are the logits and the present keys and values,
    float32 [B, kv_heads, T, head_size].
    """
    return _Decoder(sizes, layout, logits).model(weights)


class _Decoder:
    def __init__(self, sizes: Hyperparameters, layout: Layout, logits: Logits) -> None:
        self._sizes = sizes
        self._layout = layout
        self._logits = logits
        self._body = linear.BODY[layout]
        self._nodes = Nodes()

    def model(self, weights: Mapping[str, onnx.TensorProto]) -> onnx.ModelProto:
        self._count_tokens()
        residual = self._embed()
        normed = self._norm(residual, attention_norm(0), "layer.0.normed")
        for layer in range(self._sizes.layers):
            residual, normed = self._layer(layer, residual, normed)
        self._project(normed)
        return self._nodes.model(self._inputs(), self._outputs(), weights, {LAYOUT_PROPERTY: self._layout.value})

    def _count_tokens(self) -> None:
        """Derive the inputs of GroupQueryAttention from the attention mask [B, T].

        `total_length` is T, an int32 scalar; `last_positions` is int32 [B], the last position of each row.
        """
        add, one = self._nodes.add, self._nodes.constant("one", np.int64(1))
        shape = add("Shape", ["attention_mask"], "mask.shape")
        add("Cast", [add("Gather", [shape, one], "mask.length", axis=0)], "total_length", to=TensorProto.INT32)
        axis = self._nodes.constant("mask.axis", np.array([1], np.int64))
        tokens = add("ReduceSum", ["attention_mask", axis], "row.tokens", keepdims=0)
        add("Cast", [add("Sub", [tokens, one], "row.last")], "last_positions", to=TensorProto.INT32)

    def _embed(self) -> str:
        embedded = self._nodes.add(
            "GatherBlockQuantized",
            [f"{EMBEDDING_WEIGHTS}.values", "input_ids", f"{EMBEDDING_WEIGHTS}.scales"],
            "embedded",
            domain=CONTRIB,
            bits=8,
            block_size=EMBEDDING_BLOCK,
            gather_axis=0,
            quantize_axis=1,
        )
        if not self._sizes.architecture.scales_embedding:
            return embedded
        scale = self._nodes.constant("embedding.scale", np.float32(self._sizes.hidden**0.5))
        return self._nodes.add("Mul", [embedded, scale], "embedded.scaled")

    def _layer(self, layer: int, residual: str, normed: str) -> tuple[str, str]:
        """Add a layer. Return its residual output and that output normed for the next layer, each [B, S, hidden]."""
        name, last = f"layer.{layer}", layer == self._sizes.layers - 1
        matrices, result_norms = layer_matrices(self._sizes, layer), self._sizes.architecture.normalizes_results
        attended = self._attention(layer, self._body.multiply(self._nodes, normed, matrices.qkv, f"{name}.qkv.out"))
        if last and self._logits is Logits.PICKED:  # keys and values are complete: the rest needs only the picked rows
            attended = self._pick(attended, matrices.attention_output.columns)
            residual = self._pick(residual, self._sizes.hidden)
        attended = self._body.multiply(self._nodes, attended, matrices.attention_output, f"{name}.attention.out")
        if result_norms:
            attended = self._norm(attended, attention_result_norm(layer), f"{name}.attention.normed")
        residual, normed = self._add_and_norm(residual, attended, mlp_norm(layer), f"{name}.mlp")
        transformed = self._mlp(layer, normed)
        if result_norms:
            transformed = self._norm(transformed, mlp_result_norm(layer), f"{name}.mlp.result")
        weights = FINAL_NORM_WEIGHTS if last else attention_norm(layer + 1)
        return self._add_and_norm(residual, transformed, weights, f"layer.{layer + 1}")

    def _attention(self, layer: int, qkv: str) -> str:
        """Rotate, append to the KV cache and attend: [B, S, (heads + 2 * kv_heads) * head_size] to [B, S, ...]."""
        sizes, local = self._sizes, self._sizes.is_local(layer)
        if sizes.architecture.biases:
            qkv = self._nodes.add("Add", [qkv, qkv_bias(layer)], f"layer.{layer}.qkv.biased")
        projected = self._normed_heads(layer, qkv) if sizes.architecture.normalizes_heads else [qkv, "", ""]
        inputs = [*projected, PAST_KEY % layer, PAST_VALUE % layer, "last_positions", "total_length"]
        tables = [LOCAL_ROTARY_COS, LOCAL_ROTARY_SIN] if local and sizes.local_rope_base else [ROTARY_COS, ROTARY_SIN]
        return self._nodes.add(
            "GroupQueryAttention",
            [*inputs, *tables],
            f"layer.{layer}.attended",
            PRESENT_KEY % layer,
            PRESENT_VALUE % layer,
            domain=CONTRIB,
            num_heads=sizes.heads,
            kv_num_heads=sizes.kv_heads,
            scale=sizes.score_scale,
            do_rotary=1,
            rotary_interleaved=0,
            local_window_size=sizes.window if local else -1,
            **({"softcap": sizes.attention_cap} if sizes.attention_cap else {}),
        )

    def _normed_heads(self, layer: int, qkv: str) -> list[str]:
        """Split [B, S, (heads + 2 * kv_heads) * head_size] into q, k and v; norm each head of q and k."""
        sizes, name = self._sizes, f"layer.{layer}"
        widths = np.array([sizes.heads, sizes.kv_heads, sizes.kv_heads], np.int64) * sizes.head_size
        split = self._nodes.constant("qkv.widths", widths)
        parts = [f"{name}.q", f"{name}.k", f"{name}.v"]
        self._nodes.add("Split", [qkv, split], *parts, axis=-1)
        by_head = self._nodes.constant("by_head", np.array([0, 0, -1, sizes.head_size], np.int64))
        joined = self._nodes.constant("heads_joined", np.array([0, 0, -1], np.int64))
        normed = []
        for part, weights in zip(parts[:2], (head_norm(layer, "q"), head_norm(layer, "k")), strict=True):
            heads = self._nodes.add("Reshape", [part, by_head], f"{part}.heads")
            heads = self._norm(heads, weights, f"{part}.normed")
            normed.append(self._nodes.add("Reshape", [heads, joined], f"{part}.joined"))
        return [*normed, parts[2]]

    def _mlp(self, layer: int, normed: str) -> str:
        add, name = self._nodes.add, f"layer.{layer}"
        matrices = layer_matrices(self._sizes, layer)
        both = self._body.multiply(self._nodes, normed, matrices.gate_up, f"{name}.gate_up.out")
        gate = add("Split", [both], f"{name}.gate", f"{name}.up", axis=-1, num_outputs=2)
        if self._sizes.architecture.activation == "gelu":
            active = add("Gelu", [gate], f"{name}.gelu", approximate="tanh")
        else:
            active = add("QuickGelu", [gate], f"{name}.silu", domain=CONTRIB, alpha=1.0)
        gated = add("Mul", [active, f"{name}.up"], f"{name}.gated")
        return self._body.multiply(self._nodes, gated, matrices.down, f"{name}.mlp.out")

    def _norm(self, x: str, weights: str, name: str) -> str:
        """Return x divided by its root mean square, times the weights."""
        return self._nodes.add(
            "SimplifiedLayerNormalization",
            [x, weights],
            name,
            axis=-1,
            epsilon=self._sizes.norm_epsilon,
            stash_type=1,
        )

    def _add_and_norm(self, residual: str, change: str, weights: str, name: str) -> tuple[str, str]:
        """Return the sum, and the sum normed with the weights."""
        normed = self._nodes.add(
            "SkipSimplifiedLayerNormalization",
            [residual, change, weights],
            f"{name}.normed",
            "",
            "",
            f"{name}.residual",
            domain=CONTRIB,
            epsilon=self._sizes.norm_epsilon,
        )
        return f"{name}.residual", normed

    def _pick(self, x: str, width: int) -> str:
        """Gather the positions of `logits_idx`: [B, S, width] to [P, width]."""
        flat_shape = self._nodes.constant(f"{x}.flat_shape", np.array([-1, width], np.int64))
        flat = self._nodes.add("Reshape", [x, flat_shape], f"{x}.flat")
        return self._nodes.add("Gather", [flat, "logits_idx"], f"{x}.picked", axis=0)

    def _project(self, normed: str) -> None:
        # The weights of the output matrix have the same name whether or not the file has its own.
        head = head_matrix(self._sizes, own=False)
        cap, add = self._sizes.logits_cap, self._nodes.add
        raw = linear.HEAD[self._layout].multiply(self._nodes, normed, head, "logits.raw" if cap else "logits")
        if cap:
            largest = self._nodes.constant("logits.cap", np.float32(cap))
            add("Mul", [add("Tanh", [add("Div", [raw, largest], "logits.scaled")], "logits.tanh"), largest], "logits")

    def _inputs(self) -> list[onnx.ValueInfoProto]:
        tokens = [
            helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch_size", "sequence_length"]),
            helper.make_tensor_value_info("attention_mask", TensorProto.INT64, ["batch_size", "total_sequence_length"]),
        ]
        if self._logits is Logits.PICKED:
            tokens.append(helper.make_tensor_value_info("logits_idx", TensorProto.INT64, ["rows"]))
        return tokens + self._caches(PAST_KEY, PAST_VALUE, "past_sequence_length")

    def _outputs(self) -> list[onnx.ValueInfoProto]:
        positions = ["batch_size", "sequence_length"] if self._logits is Logits.ALL else ["rows"]
        logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, [*positions, self._sizes.vocabulary])
        return [logits, *self._caches(PRESENT_KEY, PRESENT_VALUE, "total_sequence_length")]

    def _caches(self, key: str, value: str, length: str) -> list[onnx.ValueInfoProto]:
        shape = ["batch_size", self._sizes.kv_heads, length, self._sizes.head_size]
        return [
            helper.make_tensor_value_info(name % layer, TensorProto.FLOAT, shape)
            for layer in range(self._sizes.layers)
            for name in (key, value)
        ]
