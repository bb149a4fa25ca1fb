"""A tiny model that says what it is told to: greedily, each token of a script is followed by the next one.

It is a real decoder with a real tokenizer and a real chat template, whose weights are made rather than trained: its
layers add nothing, so that the logits after a token depend on that token alone.
"""

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from cupola_plugins.gguf import Layout
from cupola_plugins.gguf.importer import import_gguf
from tiny_model import CONTROL, NORMAL, TinySizes, tiny_gguf, vocabulary

SIZES = TinySizes(layers=1, heads=4, kv_heads=4, head_size=32, hidden=128, intermediate=128, context=4096)
END, LINE_END = "<|im_end|>", "\u010a"


def write_scripted_model(
    folder: Path, script: str, template: str, *, specials: tuple[str, ...] = (), after: str = LINE_END
) -> Path:
    """Write a model that answers with a script.

    Args:
        folder: Where to.
        script: The answer. Special tokens in it come out as such.
        template: The chat template.
        specials: Special tokens beside those of every tiny model.
        after: The token that prompts end with.
    """
    gguf = tiny_gguf(SIZES)
    pieces = _pieces(script, specials)
    tokens = [*vocabulary(), *specials]
    spelled = [piece if piece in specials else _spelled(piece) for piece in pieces]
    tokens += [piece for piece in spelled if piece not in tokens]
    ids = {token: number for number, token in enumerate(tokens)}
    random = np.random.default_rng(0).standard_normal((len(tokens), SIZES.hidden))
    embeddings = (random / np.linalg.norm(random, axis=1, keepdims=True)).astype(np.float32)
    head = np.zeros_like(embeddings)
    chain = [after, *spelled, END]
    assert len(set(chain)) == len(chain), "a token can be followed by one other alone"
    for token, following in pairwise(chain):
        head[ids[following]] = 8 * embeddings[ids[token]]
    tensors = {name: np.zeros_like(values) if "blk" in name else values for name, values in gguf.tensors.items()}
    norms = {name: np.ones_like(values) for name, values in tensors.items() if "norm" in name}
    kind = gguf.kinds["token_embd.weight"]
    gguf = replace(
        gguf,
        metadata={
            **gguf.metadata,
            "llama.vocab_size": len(tokens),
            "tokenizer.ggml.tokens": tokens,
            "tokenizer.ggml.token_type": [CONTROL if token in {*specials, *tokens[:3]} else NORMAL for token in tokens],
            "tokenizer.chat_template": template,
        },
        tensors={**tensors, **norms, "token_embd.weight": embeddings, "output.weight": head},
        kinds={**gguf.kinds, "output.weight": kind},
    )
    folder.mkdir(parents=True, exist_ok=True)
    source = gguf.write(folder / "scripted.gguf")
    import_gguf(source, folder, layout=Layout.INT8_ROWS)
    source.unlink()
    config = json.loads((folder / "genai_config.json").read_text("utf-8"))
    config["model"]["eos_token_id"] = ids[END]  # some families write in mid-answer what ends those of others
    (folder / "genai_config.json").write_text(json.dumps(config), "utf-8")
    return folder


def _pieces(script: str, specials: tuple[str, ...]) -> list[str]:
    """Cut a script into special tokens, and into pieces of text no two of which are alike."""
    pieces: list[str] = []
    rest = script
    while rest:
        special = next((one for one in specials if rest.startswith(one)), "")
        size = len(special)
        if not special:
            limit = min((at for one in specials if (at := rest.find(one)) > 0), default=len(rest))
            size = next((size for size in range(min(2, limit), limit + 1) if rest[:size] not in pieces), 0)
            if not size:  # what is left was there before, and goes with what came just before it
                last = pieces.pop()
                rest, size = last + rest, len(last) + limit
        pieces.append(rest[:size])
        rest = rest[size:]
    return pieces


def _spelled(text: str) -> str:
    """Write text in the alphabet of byte-level BPE; scripts are of ASCII."""
    return "".join(chr(256 + ord(one)) if one in "\n " else one for one in text)
