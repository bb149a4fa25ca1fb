"""The architectures that can be imported, and what sets each apart. Facts from llama.cpp's converter and graphs."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

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


@dataclass(frozen=True, slots=True)
class Architecture:
    """What sets one GGUF architecture apart. A new one is a new entry of `ARCHITECTURES`, and what it needs beyond it.

    Attributes:
        genai_type: What onnxruntime-genai calls it.
        interleaves_rotary_rows: llama.cpp's converter reorders the rows of q and k so that the two values of a
            rotary pair are neighbours; the graph wants them half a head apart.
        takes_rotary_factors: Its files may hold `rope_freqs.weight`, which divides the frequencies (Llama 3.1 on).
        biases: Queries, keys and values have a bias.
        normalizes_heads: Each head of queries and keys is normed before it is rotated.
        scales_embedding: The embedding is multiplied by the square root of the hidden size. Norms that add one to
            their weights need nothing here: the converter has added it.
        activation: What gates the MLP.
        normalizes_results: What attention and MLP add to the residual stream is normed before, too.
        soft_caps: Attention scores and logits are capped by a tanh, as the metadata says.
        window_period: Of so many layers all but the last attend to a window only; 0 if none does.
        local_rope_base: Rotary base of the layers with a window; 0 if it is that of the others.
        scales_positions: Positions of the layers without window may be divided by `rope.scaling.factor`.
        heads_share_hidden: Number of layers of a size of this family whose scores are scaled by hidden size per head,
            not by head size (the 27B ones).
        neutral: Metadata beyond the sizes that may be there with one of these values, which change nothing.
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
        """Metadata that only some architectures have."""
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
