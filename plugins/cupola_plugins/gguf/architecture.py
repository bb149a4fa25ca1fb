"""The supported model architectures, and the sizes of a model as the GGUF metadata gives them.

The facts about each architecture come from llama.cpp (convert_hf_to_gguf.py and the graphs in src/). Metadata that is
not understood is refused, not ignored: a key such as `rope.scaling.factor` changes every result.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from cupola.errors import ModelFormatError
from cupola_plugins.gguf.container import Value

_UNSCALED: Mapping[str, tuple[Value, ...]] = {
    "rope.scaling.type": ("none",),
    "rope.scaling.factor": (0.0, 1.0),
    "rope.scaling.finetuned": (False,),
    "rope.scale_linear": (0.0, 1.0),
    "attention.causal": (True,),
    "attention.sliding_window": (0,),
    "expert_count": (0,),
    "expert_used_count": (0,),
}
_LONGEST_CONTEXT = 1 << 20
_HEAD_SIZE_STEP = 16  # GroupQueryAttention refuses to rotate others
_HIDDEN_STEP = 32  # GatherBlockQuantized reads the embedding in blocks of 32
_UNDERSTOOD = {
    "attention.head_count",
    "attention.head_count_kv",
    "attention.key_length",
    "attention.layer_norm_rms_epsilon",
    "attention.value_length",
    "block_count",
    "context_length",
    "embedding_length",
    "feed_forward_length",
    "rope.dimension_count",
    "rope.freq_base",
    "vocab_size",
}


@dataclass(frozen=True, slots=True)
class Architecture:
    """The properties of one GGUF architecture. To support another one, add an entry to `ARCHITECTURES`.

    Attributes:
        genai_type: The `model.type` of onnxruntime-genai.
        interleaves_rotary_rows: llama.cpp's converter reorders the rows of q and k so that the two values of a
            rotary pair are adjacent; the graph requires them half a head apart.
        takes_rotary_factors: Its files may hold `rope_freqs.weight`, which divides the frequencies (Llama 3.1 on).
        biases: Queries, keys and values have a bias.
        normalizes_heads: Each head of queries and keys is normed before it is rotated.
        scales_embedding: The embedding is multiplied by the square root of the hidden size. Norms that add one to
            their weights need nothing here: the converter has added it.
        activation: The activation function of the gated MLP.
        normalizes_results: The outputs of attention and MLP are normed before they are added to the residual.
        soft_caps: Attention scores and logits are capped by a tanh, as the metadata says.
        window_period: In every group of this many layers, all but the last use sliding-window attention; 0 for none.
        local_rope_base: RoPE base of the sliding-window layers; 0 if it equals that of the other layers.
        scales_positions: Positions of the layers with full attention may be divided by `rope.scaling.factor`.
        heads_share_hidden: The number of layers of the model size whose scores are scaled by hidden size per head,
            not by head size (the 27B ones).
        neutral: Other accepted metadata keys, each with the values that have no effect.
    """

    genai_type: str
    interleaves_rotary_rows: bool = False
    takes_rotary_factors: bool = False
    biases: bool = False
    normalizes_heads: bool = False
    scales_embedding: bool = False
    activation: Literal["silu", "gelu"] = "silu"
    normalizes_results: bool = False
    soft_caps: bool = False
    window_period: int = 0
    local_rope_base: float = 0.0
    scales_positions: bool = False
    heads_share_hidden: int = 0
    neutral: Mapping[str, tuple[Value, ...]] = field(default_factory=lambda: _UNSCALED)

    @property
    def keys(self) -> frozenset[str]:
        """Metadata keys that only some architectures have."""
        keys = set()
        if self.soft_caps:
            keys |= {"attn_logit_softcapping", "final_logit_softcapping"}
        if self.window_period:
            keys |= {"attention.sliding_window"}
        if self.local_rope_base:
            keys |= {"rope.freq_base_swa"}
        if self.scales_positions:
            keys |= {"rope.scaling.type", "rope.scaling.factor"}
        return frozenset(keys)


ARCHITECTURES: Mapping[str, Architecture] = {
    "llama": Architecture(
        genai_type="llama",
        interleaves_rotary_rows=True,
        takes_rotary_factors=True,
        neutral={**_UNSCALED, "tensor_data_layout": ("Meta AI original pth",)},
    ),
    "qwen2": Architecture(genai_type="qwen2", biases=True),
    "qwen3": Architecture(genai_type="qwen3", normalizes_heads=True),
    "gemma": Architecture(genai_type="gemma", scales_embedding=True, activation="gelu"),
    "gemma2": Architecture(
        genai_type="gemma2",
        scales_embedding=True,
        activation="gelu",
        normalizes_results=True,
        soft_caps=True,
        window_period=2,
        heads_share_hidden=46,
    ),
    "gemma3": Architecture(
        genai_type="gemma3_text",
        normalizes_heads=True,
        scales_embedding=True,
        activation="gelu",
        normalizes_results=True,
        window_period=6,
        local_rope_base=10_000.0,
        scales_positions=True,
        heads_share_hidden=62,
    ),
}


@dataclass(frozen=True, slots=True)
class Hyperparameters:
    """The sizes of a decoder, from the metadata of a GGUF file.

    Attributes:
        architecture: The architecture, with the properties that all its models share.
        layers: Number of transformer layers.
        hidden: Width of the hidden states.
        intermediate: Width of the MLP.
        heads: Number of attention heads.
        kv_heads: Number of key-value heads.
        head_size: Width of a head.
        vocabulary: Size of the vocabulary, in tokens.
        context: Context length, in tokens.
        rope_base: Base of the rotary position embedding.
        norm_epsilon: Epsilon of the normalization layers.
        local_rope_base: Rotary base of the sliding-window layers; 0 if there are none.
        window: Window of the sliding-window layers, in tokens; 0 if there are none.
        position_factor: Divisor of the positions in the layers with full attention.
        attention_cap, logits_cap: Soft caps of attention scores and logits; 0 for none.
    """

    architecture: Architecture
    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_size: int
    vocabulary: int
    context: int
    rope_base: float
    norm_epsilon: float
    window: int = 0
    local_rope_base: float = 0.0
    position_factor: float = 1.0
    attention_cap: float = 0.0
    logits_cap: float = 0.0

    def is_local(self, layer: int) -> bool:
        """Tell whether a layer uses sliding-window attention."""
        return self.window > 0 and (layer + 1) % self.architecture.window_period != 0

    @property
    def score_scale(self) -> float:
        """The factor of the attention scores."""
        by_hidden = self.layers == self.architecture.heads_share_hidden
        return float((self.hidden / self.heads if by_hidden else self.head_size) ** -0.5)


def read_hyperparameters(path: Path, metadata: Mapping[str, Value]) -> Hyperparameters:
    """Read and check the sizes.

    Args:
        path: The file, for error messages.
        metadata: The metadata of its header.

    Raises:
        ModelFormatError: A size is missing or impossible, or the model needs something that is not supported.
    """
    return _MetadataReader(path, metadata).hyperparameters()


class _MetadataReader:
    def __init__(self, path: Path, metadata: Mapping[str, Value]) -> None:
        self._path = path
        self._metadata = metadata
        self._name = self._supported_name()
        self._architecture = ARCHITECTURES[self._name]
        self._refuse_unknown_keys()

    def _refusal(self, detail: str) -> ModelFormatError:
        return ModelFormatError(path=str(self._path), detail=detail)

    def _supported_name(self) -> str:
        if self._metadata.get("general.type", "model") != "model":
            raise self._refusal(
                f"holds no language model: its type is {self._metadata['general.type']!r}. Use another file."
            )
        if self._metadata.get("split.count", 1) not in (0, 1):
            raise self._refusal("is one part of a split model. Join the parts with `llama-gguf-split --merge` first.")
        name = self._metadata.get("general.architecture")
        if not isinstance(name, str) or name not in ARCHITECTURES:
            raise self._refusal(
                f"has the unsupported architecture {name!r}. Supported: {', '.join(sorted(ARCHITECTURES))}."
            )
        return name

    def _refuse_unknown_keys(self) -> None:
        prefix = f"{self._name}."
        for key, value in self._metadata.items():
            rest = key.removeprefix(prefix)
            known = _UNDERSTOOD | self._architecture.keys
            if rest == key or rest in known or value in self._architecture.neutral.get(rest, ()):
                continue
            raise self._refusal(
                f"sets {key} = {value!r}, which is not supported. Ignoring it would give wrong answers. "
                f"Use a model without this setting."
            )

    def hyperparameters(self) -> Hyperparameters:
        hidden = self._positive_int("embedding_length")
        heads = self._positive_int("attention.head_count")
        head_size = self._positive_int("attention.key_length", hidden // heads)
        sizes = Hyperparameters(
            architecture=self._architecture,
            layers=self._positive_int("block_count"),
            hidden=hidden,
            intermediate=self._positive_int("feed_forward_length"),
            heads=heads,
            kv_heads=self._positive_int("attention.head_count_kv", heads),
            head_size=head_size,
            vocabulary=self._vocabulary(),
            context=self._positive_int("context_length"),
            rope_base=self._positive_float("rope.freq_base", 10_000.0),
            norm_epsilon=self._positive_float("attention.layer_norm_rms_epsilon"),
            **self._optional_sizes(),
        )
        self._check(sizes)
        return sizes

    def _optional_sizes(self) -> dict[str, Any]:
        """Read the sizes that only some architectures have."""
        architecture, found = self._architecture, dict[str, Any]()
        if architecture.window_period:
            found["window"] = self._positive_int("attention.sliding_window")
        if architecture.local_rope_base:
            found["local_rope_base"] = self._positive_float("rope.freq_base_swa", architecture.local_rope_base)
        if architecture.soft_caps:
            found["attention_cap"] = self._positive_float("attn_logit_softcapping")
            found["logits_cap"] = self._positive_float("final_logit_softcapping")
        if architecture.scales_positions and (kind := self._value("rope.scaling.type", "none")) != "none":
            if kind != "linear":
                raise self._refusal(f"scales positions by {kind!r}, which is not supported. Use another model.")
            found["position_factor"] = self._positive_float("rope.scaling.factor")
        return found

    def _check(self, sizes: Hyperparameters) -> None:
        problems = {
            f"the number of attention heads, {sizes.heads}, is not a multiple of {sizes.kv_heads} key-value heads": (
                sizes.heads % sizes.kv_heads
            ),
            f"a head size of {sizes.head_size} is not a multiple of {_HEAD_SIZE_STEP}": sizes.head_size
            % _HEAD_SIZE_STEP,
            f"a hidden size of {sizes.hidden} is not a multiple of {_HIDDEN_STEP}": sizes.hidden % _HIDDEN_STEP,
            "its keys and values differ in size": self._positive_int("attention.value_length", sizes.head_size)
            != sizes.head_size,
            "it rotates only part of each head": self._positive_int("rope.dimension_count", sizes.head_size)
            != sizes.head_size,
            f"a context of {sizes.context} tokens is longer than {_LONGEST_CONTEXT}": sizes.context > _LONGEST_CONTEXT,
            "the tokenizer and vocab_size do not agree": self._positive_int("vocab_size", sizes.vocabulary)
            != sizes.vocabulary,
        }
        for problem, found in problems.items():
            if found:
                raise self._refusal(f"cannot be imported: {problem}. Use another model.")

    def _vocabulary(self) -> int:
        tokens = self._metadata.get("tokenizer.ggml.tokens")
        if not isinstance(tokens, list) or not tokens:
            raise self._refusal(
                "has no tokenizer (tokenizer.ggml.tokens). Convert the model again, with its tokenizer."
            )
        return len(tokens)

    def _positive_int(self, key: str, default: int | None = None) -> int:
        value = self._value(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise self._refusal(
                f"sets {self._name}.{key} = {value!r}, which is not a positive integer. Convert the model again."
            )
        return value

    def _positive_float(self, key: str, default: float | None = None) -> float:
        value = self._value(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
            raise self._refusal(
                f"sets {self._name}.{key} = {value!r}, which is not a positive number. Convert the model again."
            )
        return float(value)

    def _value(self, key: str, default: float | str | None) -> Value:
        value = self._metadata.get(f"{self._name}.{key}", default)
        if value is None:
            raise self._refusal(f"does not set {self._name}.{key}. Convert the model again with a current converter.")
        return value
