"""A tiny random language model, made in about a second: for tests that need a model but no language.

It is written as a GGUF with random weights and then imported as any other, so that it goes through the real importer.
`TinyGguf` holds what goes into the file, to be changed by tests of faults; `reference_logits` computes in plain numpy
what the model must answer.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGMLQuantizationType, GGUFValueType, GGUFWriter
from gguf.quants import dequantize, quantize

from cupola_plugins.gguf import Layout
from cupola_plugins.gguf.importer import import_gguf

SPECIAL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
MERGES = (
    "Ġ t", "h e", "Ġ a", "i n", "r e", "Ġt he", "o n", "e r", "Ġ s", "a t", "n d", "Ġ w", "o u", "i s", "e s", "Ġ o",
    "e n", "in g", "Ġ f", "o r", "Ġ c", "i t", "e d", "Ġ p", "a n", "Ġ b", "a l", "Ġa nd", "l l", "Ġt o", "Ġo f",
    "Ġ m", "Ġ in", "Ġ d", "a r", "Ġ Ġ", "Ċ Ċ", "Ġ is", "l o", "he l", "hel lo",
)  # fmt: skip
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
CONTROL, NORMAL = 3, 1


@dataclass(frozen=True)
class TinySizes:
    """The sizes of a tiny decoder."""

    layers: int = 2
    heads: int = 4
    kv_heads: int = 2
    head_size: int = 16
    hidden: int = 64
    intermediate: int = 96
    context: int = 512
    rope_base: float = 10_000.0
    norm_epsilon: float = 1e-5


@dataclass
class TinyGguf:
    """What a GGUF file holds: metadata, and tensors [rows, columns] with the type in which each is stored.

    A tensor of bytes is written as it is, one of floats is quantised first.
    """

    metadata: dict[str, Any]
    tensors: dict[str, np.ndarray]
    kinds: dict[str, GGMLQuantizationType] = field(default_factory=dict)

    def write(self, path: Path) -> Path:
        """Write the file with llama.cpp's own writer."""
        writer = GGUFWriter(path, str(self.metadata["general.architecture"]))
        for key, value in self.metadata.items():
            if key != "general.architecture":
                add_metadata(writer, key, value)
        for name, values in self.tensors.items():
            kind = self.kinds.get(name, GGMLQuantizationType.F32)
            stored = values if values.dtype == np.uint8 else quantize(values, kind)
            writer.add_tensor(name, stored, raw_dtype=kind)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return path


def add_metadata(writer: GGUFWriter, key: str, value: Any) -> None:
    kinds = {bool: GGUFValueType.BOOL, int: GGUFValueType.UINT32, float: GGUFValueType.FLOAT32}
    if isinstance(value, list):
        writer.add_array(key, value)
    elif isinstance(value, str):
        writer.add_string(key, value)
    else:
        writer.add_key_value(key, value, kinds[type(value)])


def vocabulary() -> list[str]:
    """The special tokens, the 256 bytes in the alphabet of byte-level BPE, and what the merges make of them."""
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    alphabet = {byte: chr(byte) for byte in printable} | {byte: chr(256 + n) for n, byte in enumerate(others)}
    return [*SPECIAL_TOKENS, *(alphabet[byte] for byte in range(256)), *(merge.replace(" ", "") for merge in MERGES)]


def tiny_weights(sizes: TinySizes, *, seed: int = 0, own_head: bool = False) -> dict[str, np.ndarray]:
    """Draw random weights, by GGUF names but with q and k in the order of Hugging Face: rotary pairs half a head apart.

    Large q and k make attention sharp, so that a wrong rotation or a wrong head shows in the logits.
    """
    random = np.random.default_rng(seed)
    vocabulary_size, hidden = len(vocabulary()), sizes.hidden
    queries, keys = sizes.heads * sizes.head_size, sizes.kv_heads * sizes.head_size

    def matrix(rows: int, columns: int, gain: float = 1.0) -> np.ndarray:
        return (random.standard_normal((rows, columns)) * gain / np.sqrt(columns)).astype(np.float32)

    def norm() -> np.ndarray:
        return random.uniform(0.5, 1.5, hidden).astype(np.float32)

    weights = {"token_embd.weight": matrix(vocabulary_size, hidden, 4.0), "output_norm.weight": norm()}
    if own_head:
        weights["output.weight"] = matrix(vocabulary_size, hidden, 4.0)
    for layer in range(sizes.layers):
        weights |= {
            f"blk.{layer}.attn_norm.weight": norm(),
            f"blk.{layer}.attn_q.weight": matrix(queries, hidden, 2.0),
            f"blk.{layer}.attn_k.weight": matrix(keys, hidden, 2.0),
            f"blk.{layer}.attn_v.weight": matrix(keys, hidden),
            f"blk.{layer}.attn_output.weight": matrix(hidden, queries, 4.0),
            f"blk.{layer}.ffn_norm.weight": norm(),
            f"blk.{layer}.ffn_gate.weight": matrix(sizes.intermediate, hidden, 2.0),
            f"blk.{layer}.ffn_up.weight": matrix(sizes.intermediate, hidden, 2.0),
            f"blk.{layer}.ffn_down.weight": matrix(hidden, sizes.intermediate, 2.0),
        }
    return weights


def tiny_gguf(
    sizes: TinySizes = TinySizes(),
    *,
    seed: int = 0,
    own_head: bool = False,
    kind: GGMLQuantizationType = GGMLQuantizationType.Q8_0,
) -> TinyGguf:
    """Put a tiny model together as llama.cpp's converter would. Matrices are stored as `kind`, norms as F32."""
    tokens = vocabulary()
    weights = tiny_weights(sizes, seed=seed, own_head=own_head)
    tensors = {name: as_llama_cpp_orders(name, values, sizes) for name, values in weights.items()}
    metadata: dict[str, Any] = {
        "general.architecture": "llama",
        "general.type": "model",
        "general.name": "tiny",
        "llama.block_count": sizes.layers,
        "llama.context_length": sizes.context,
        "llama.embedding_length": sizes.hidden,
        "llama.feed_forward_length": sizes.intermediate,
        "llama.attention.head_count": sizes.heads,
        "llama.attention.head_count_kv": sizes.kv_heads,
        "llama.attention.key_length": sizes.head_size,
        "llama.attention.value_length": sizes.head_size,
        "llama.attention.layer_norm_rms_epsilon": sizes.norm_epsilon,
        "llama.rope.freq_base": sizes.rope_base,
        "llama.rope.dimension_count": sizes.head_size,
        "llama.vocab_size": len(tokens),
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "smollm",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [CONTROL if token in SPECIAL_TOKENS else NORMAL for token in tokens],
        "tokenizer.ggml.merges": list(MERGES),
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.unknown_token_id": 0,
        "tokenizer.ggml.padding_token_id": 2,
        "tokenizer.ggml.add_bos_token": False,
        "tokenizer.chat_template": CHAT_TEMPLATE,
    }
    return TinyGguf(metadata, tensors, {name: kind for name, values in tensors.items() if values.ndim == 2})


def as_llama_cpp_orders(name: str, values: np.ndarray, sizes: TinySizes) -> np.ndarray:
    """Reorder the rows of q and k as llama.cpp's converter does: the two values of a rotary pair become neighbours."""
    heads = {"attn_q": sizes.heads, "attn_k": sizes.kv_heads}.get(name.split(".")[-2])
    if heads is None:
        return values
    return values.reshape(heads, 2, sizes.head_size // 2, -1).swapaxes(1, 2).reshape(values.shape)


def write_tiny_gguf(path: Path, sizes: TinySizes = TinySizes(), *, seed: int = 0, own_head: bool = False) -> Path:
    """Write a tiny model as a GGUF file."""
    return tiny_gguf(sizes, seed=seed, own_head=own_head).write(path)


def write_tiny_model(
    folder: Path, *, seed: int = 0, layout: Layout = Layout.INT8_ROWS, own_head: bool = False, **sizes: Any
) -> Path:
    """Write a tiny model into a folder that onnxruntime-genai loads. `sizes` are those of `TinySizes`."""
    folder.mkdir(parents=True, exist_ok=True)
    source = write_tiny_gguf(folder / "tiny.gguf", TinySizes(**sizes), seed=seed, own_head=own_head)
    import_gguf(source, folder, layout=layout)
    source.unlink()
    return folder


def reference_logits(
    tokens: list[int],
    sizes: TinySizes = TinySizes(),
    *,
    seed: int = 0,
    own_head: bool = False,
    kind: GGMLQuantizationType = GGMLQuantizationType.Q8_0,
) -> np.ndarray:
    """Run the tiny model in numpy, in float32, on its weights as the file holds them. Returns [tokens, vocabulary]."""
    weights = {
        name: dequantize(quantize(values, kind), kind) if values.ndim == 2 else values
        for name, values in tiny_weights(sizes, seed=seed, own_head=own_head).items()
    }
    x = weights["token_embd.weight"][tokens]
    for layer in range(sizes.layers):
        w = {name.split(".")[2]: values for name, values in weights.items() if name.startswith(f"blk.{layer}.")}
        normed = rms_norm(x, w["attn_norm"], sizes)
        q, k = (rotated(normed @ w[name].T, sizes) for name in ("attn_q", "attn_k"))
        x = x + attention(q, k, by_head(normed @ w["attn_v"].T, sizes)) @ w["attn_output"].T
        normed = rms_norm(x, w["ffn_norm"], sizes)
        gate = normed @ w["ffn_gate"].T
        x = x + (gate / (1 + np.exp(-gate)) * (normed @ w["ffn_up"].T)) @ w["ffn_down"].T
    return (
        rms_norm(x, weights["output_norm.weight"], sizes) @ weights.get("output.weight", weights["token_embd.weight"]).T
    )


def rms_norm(x: np.ndarray, weights: np.ndarray, sizes: TinySizes) -> np.ndarray:
    return x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + sizes.norm_epsilon) * weights


def by_head(x: np.ndarray, sizes: TinySizes) -> np.ndarray:
    """[tokens, heads * size] to [heads, tokens, size]."""
    return x.reshape(len(x), -1, sizes.head_size).swapaxes(0, 1)


def rotated(x: np.ndarray, sizes: TinySizes) -> np.ndarray:
    """Rotate each head by its position, pairs half a head apart."""
    half = sizes.head_size // 2
    frequencies = sizes.rope_base ** -(np.arange(half) / half)
    angles = np.outer(np.arange(len(x)), frequencies)
    cos, sin = np.cos(angles), np.sin(angles)
    first, second = np.split(by_head(x, sizes), 2, axis=-1)
    return np.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)


def attention(q: np.ndarray, k: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Causal attention with shared key-value heads; [heads, tokens, size] to [tokens, heads * size]."""
    group = len(q) // len(k)
    k, v = np.repeat(k, group, axis=0), np.repeat(v, group, axis=0)
    scores = q @ k.swapaxes(1, 2) / np.sqrt(q.shape[-1])
    scores = np.where(np.tril(np.ones(scores.shape[-2:], bool)), scores, -np.inf)
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1, keepdims=True)
    return (weights @ v).swapaxes(0, 1).reshape(q.shape[1], -1)
