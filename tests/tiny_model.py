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
    architecture: str = "llama"
    window: int = 4
    rope_factor: float = 1.0
    attention_cap: float = 8.0
    logits_cap: float = 5.0

    @property
    def is_gemma(self) -> bool:
        return self.architecture.startswith("gemma")

    @property
    def has_result_norms(self) -> bool:
        return self.architecture in ("gemma2", "gemma3")

    @property
    def has_head_norms(self) -> bool:
        return self.architecture in ("qwen3", "gemma3")

    def is_local(self, layer: int) -> bool:
        """Gemma 2 looks at a window in every other layer, Gemma 3 in five of six."""
        return {"gemma2": layer % 2 == 0, "gemma3": layer % 6 != 5}.get(self.architecture, False)

    def metadata(self) -> dict[str, Any]:
        """What only some architectures say about themselves."""
        if self.architecture == "gemma2":
            return {
                "attention.sliding_window": self.window,
                "attn_logit_softcapping": self.attention_cap,
                "final_logit_softcapping": self.logits_cap,
            }
        if self.architecture == "gemma3":
            scaled = {"rope.scaling.type": "linear", "rope.scaling.factor": self.rope_factor}
            return {"attention.sliding_window": self.window, **(scaled if self.rope_factor != 1 else {})}
        return {}


@dataclass
class TinyGguf:
    """What a GGUF file holds: metadata, and tensors [rows, columns] with the type in which each is stored.

    A tensor of bytes is written as it is, one of floats is quantised first.
    """

    metadata: dict[str, Any]
    tensors: dict[str, np.ndarray]
    kinds: dict[str, GGMLQuantizationType] = field(default_factory=dict)

    def with_vocabulary(self) -> "TinyGguf":
        """Give the embedding as many rows as there are tokens now."""
        count, name = len(self.metadata["tokenizer.ggml.tokens"]), "token_embd.weight"
        self.metadata[f"{self.metadata['general.architecture']}.vocab_size"] = count
        self.tensors[name] = np.resize(self.tensors[name], (count, self.tensors[name].shape[1]))
        return self

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
    return weights | peculiar_weights(sizes, seed=seed)


def peculiar_weights(sizes: TinySizes, *, seed: int) -> dict[str, np.ndarray]:
    """Draw the weights that only some architectures have."""
    random = np.random.default_rng(seed + 1_000)
    lengths: dict[str, int] = {}
    if sizes.architecture == "qwen2":
        queries, keys = sizes.heads * sizes.head_size, sizes.kv_heads * sizes.head_size
        lengths |= {"attn_q.bias": queries, "attn_k.bias": keys, "attn_v.bias": keys}
    if sizes.has_head_norms:
        lengths |= {"attn_q_norm.weight": sizes.head_size, "attn_k_norm.weight": sizes.head_size}
    if sizes.has_result_norms:
        lengths |= {"post_attention_norm.weight": sizes.hidden, "post_ffw_norm.weight": sizes.hidden}
    return {
        f"blk.{layer}.{name}": random.uniform(0.5, 1.5, length).astype(np.float32)
        for layer in range(sizes.layers)
        for name, length in lengths.items()
    }


def tiny_gguf(
    sizes: TinySizes = TinySizes(),
    *,
    seed: int = 0,
    own_head: bool = False,
    kind: GGMLQuantizationType = GGMLQuantizationType.Q8_0,
) -> TinyGguf:
    """Put a tiny model together as llama.cpp's converter would. Matrices are stored as `kind`, norms as F32."""
    tokens, name = vocabulary(), sizes.architecture
    weights = tiny_weights(sizes, seed=seed, own_head=own_head)
    tensors = {tensor: as_llama_cpp_orders(tensor, values, sizes) for tensor, values in weights.items()}
    metadata: dict[str, Any] = {
        "general.architecture": sizes.architecture,
        "general.type": "model",
        "general.name": "tiny",
        f"{name}.block_count": sizes.layers,
        f"{name}.context_length": sizes.context,
        f"{name}.embedding_length": sizes.hidden,
        f"{name}.feed_forward_length": sizes.intermediate,
        f"{name}.attention.head_count": sizes.heads,
        f"{name}.attention.head_count_kv": sizes.kv_heads,
        f"{name}.attention.key_length": sizes.head_size,
        f"{name}.attention.value_length": sizes.head_size,
        f"{name}.attention.layer_norm_rms_epsilon": sizes.norm_epsilon,
        f"{name}.rope.freq_base": sizes.rope_base,
        f"{name}.rope.dimension_count": sizes.head_size,
        f"{name}.vocab_size": len(tokens),
        **{f"{name}.{key}": value for key, value in sizes.metadata().items()},
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
    return TinyGguf(metadata, tensors, {tensor: kind for tensor, values in tensors.items() if values.ndim == 2})


SENTENCEPIECE_MERGES = (
    "▁t", "he", "▁a", "in", "re", "▁the", "on", "er", "▁s", "at", "nd", "▁w", "ou", "is", "es", "▁o", "en", "ing", "▁f",
    "or", "▁▁", "▁▁▁▁", "12", "▁c", "it", "ed", "ll", "llo", "hello", "▁he", "▁hello", "▁and",
)  # fmt: skip


def sentencepiece_gguf(*, prefix: bool = False) -> TinyGguf:
    """Put a tiny Gemma with a vocabulary of SentencePiece together; with a prefix as Llama 2 has it."""
    gguf, merges = tiny_gguf(TinySizes(architecture="gemma", layers=1)), SENTENCEPIECE_MERGES
    singles = "▁abcdefghijklmnopqrstuvwxyz0123456789.,!?'ñé中文\n"
    tokens = ["<unk>", "<s>", "</s>", "<turn>", *(f"<0x{byte:02X}>" for byte in range(256)), "\n\n", "<b>"]
    kinds = [2, CONTROL, CONTROL, CONTROL, *[6] * 256, 4, 4, *[NORMAL] * (len(merges) + len(singles))]
    scores = [0.0] * len(tokens) + [-float(rank) for rank in range(len(merges) + len(singles))]
    gguf.metadata |= {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.pre": "default",
        "tokenizer.ggml.tokens": [*tokens, *merges, *singles],
        "tokenizer.ggml.scores": scores,
        "tokenizer.ggml.token_type": kinds,
        "tokenizer.ggml.add_space_prefix": prefix,
        "tokenizer.ggml.add_bos_token": True,
        "tokenizer.chat_template": "{{ bos_token }}{% for m in messages %}<turn>{{ m['content'] }}{% endfor %}<turn>",
    }
    del gguf.metadata["tokenizer.ggml.merges"]
    return gguf.with_vocabulary()


def as_llama_cpp_orders(name: str, values: np.ndarray, sizes: TinySizes) -> np.ndarray:
    """Reorder the rows of q and k as llama.cpp's converter does: the two values of a rotary pair become neighbours."""
    heads = {"attn_q": sizes.heads, "attn_k": sizes.kv_heads}.get(name.split(".")[-2])
    if heads is None or sizes.architecture != "llama":
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
    x = weights["token_embd.weight"][tokens] * (sizes.hidden**0.5 if sizes.is_gemma else 1.0)
    for layer in range(sizes.layers):
        w = {name.split(".", 2)[2]: values for name, values in weights.items() if name.startswith(f"blk.{layer}.")}
        attended = attend(rms_norm(x, w["attn_norm.weight"], sizes), w, sizes, local=sizes.is_local(layer))
        if sizes.has_result_norms:
            attended = rms_norm(attended, w["post_attention_norm.weight"], sizes)
        x = x + attended
        normed = rms_norm(x, w["ffn_norm.weight"], sizes)
        gate = activated(normed @ w["ffn_gate.weight"].T, sizes)
        transformed = (gate * (normed @ w["ffn_up.weight"].T)) @ w["ffn_down.weight"].T
        if sizes.has_result_norms:
            transformed = rms_norm(transformed, w["post_ffw_norm.weight"], sizes)
        x = x + transformed
    head = weights.get("output.weight", weights["token_embd.weight"])
    logits = rms_norm(x, weights["output_norm.weight"], sizes) @ head.T
    return sizes.logits_cap * np.tanh(logits / sizes.logits_cap) if sizes.architecture == "gemma2" else logits


def attend(normed: np.ndarray, w: dict[str, np.ndarray], sizes: TinySizes, *, local: bool) -> np.ndarray:
    """One layer's attention, from the normed stream to what is added to it."""
    q, k, v = (
        by_head(normed @ w[f"attn_{part}.weight"].T + w.get(f"attn_{part}.bias", np.float32(0)), sizes)
        for part in "qkv"
    )
    if sizes.has_head_norms:
        q, k = rms_norm(q, w["attn_q_norm.weight"], sizes), rms_norm(k, w["attn_k_norm.weight"], sizes)
    own_base = sizes.architecture == "gemma3" and local
    base, factor = (10_000.0, 1.0) if own_base else (sizes.rope_base, sizes.rope_factor)
    q, k = rotated(q, base, factor), rotated(k, base, factor)
    cap = sizes.attention_cap if sizes.architecture == "gemma2" else 0.0
    return attention(q, k, v, window=sizes.window if local else 0, cap=cap) @ w["attn_output.weight"].T


def activated(x: np.ndarray, sizes: TinySizes) -> np.ndarray:
    """SiLU; for Gemma GELU by its tanh approximation."""
    if not sizes.is_gemma:
        return x / (1 + np.exp(-x))
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def rms_norm(x: np.ndarray, weights: np.ndarray, sizes: TinySizes) -> np.ndarray:
    return x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + sizes.norm_epsilon) * weights


def by_head(x: np.ndarray, sizes: TinySizes) -> np.ndarray:
    """[tokens, heads * size] to [heads, tokens, size]."""
    return x.reshape(len(x), -1, sizes.head_size).swapaxes(0, 1)


def rotated(x: np.ndarray, base: float, factor: float = 1.0) -> np.ndarray:
    """Rotate each head [heads, tokens, size] by its position, pairs half a head apart."""
    half = x.shape[-1] // 2
    frequencies = base ** -(np.arange(half) / half)
    angles = np.outer(np.arange(x.shape[1]) / factor, frequencies)
    cos, sin = np.cos(angles), np.sin(angles)
    first, second = np.split(x, 2, axis=-1)
    return np.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)


def attention(q: np.ndarray, k: np.ndarray, v: np.ndarray, *, window: int = 0, cap: float = 0.0) -> np.ndarray:
    """Causal attention with shared key-value heads; [heads, tokens, size] to [tokens, heads * size].

    With a window a token sees itself and the `window - 1` before it.
    """
    group = len(q) // len(k)
    k, v = np.repeat(k, group, axis=0), np.repeat(v, group, axis=0)
    scores = q @ k.swapaxes(1, 2) / np.sqrt(q.shape[-1])
    if cap:
        scores = cap * np.tanh(scores / cap)
    seen = np.tril(np.ones(scores.shape[-2:], bool))
    if window:
        seen &= ~np.tril(seen, -window)
    scores = np.where(seen, scores, -np.inf)
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1, keepdims=True)
    return (weights @ v).swapaxes(0, 1).reshape(q.shape[1], -1)
