"""genai_config.json: what onnxruntime-genai must know about a decoder."""

import json
from pathlib import Path

from cupola_plugins.gguf import files
from cupola_plugins.gguf.architecture import Hyperparameters
from cupola_plugins.gguf.graph import PAST_KEY, PAST_VALUE, PRESENT_KEY, PRESENT_VALUE
from cupola_plugins.gguf.tokenizer import GgufTokenizer


def write_genai_config(folder: Path, sizes: Hyperparameters, tokenizer: GgufTokenizer) -> None:
    """Write the configuration. Threads and the like are left to whoever loads the model."""
    decoder = {
        "session_options": {"log_id": "onnxruntime-genai", "provider_options": []},
        "filename": files.GRAPH,
        "head_size": sizes.head_size,
        "hidden_size": sizes.hidden,
        "num_attention_heads": sizes.heads,
        "num_hidden_layers": sizes.layers,
        "num_key_value_heads": sizes.kv_heads,
        "inputs": {
            "input_ids": "input_ids",
            "attention_mask": "attention_mask",
            "past_key_names": PAST_KEY,
            "past_value_names": PAST_VALUE,
        },
        "outputs": {"logits": "logits", "present_key_names": PRESENT_KEY, "present_value_names": PRESENT_VALUE},
    }
    model = {
        "type": sizes.architecture.genai_type,
        **({} if tokenizer.bos_id is None else {"bos_token_id": tokenizer.bos_id}),
        "eos_token_id": tokenizer.eos_ids[0] if len(tokenizer.eos_ids) == 1 else tokenizer.eos_ids,
        "pad_token_id": tokenizer.pad_id,
        "vocab_size": sizes.vocabulary,
        "context_length": sizes.context,
        "decoder": decoder,
    }
    search = {
        "do_sample": False,
        "max_length": sizes.context,
        "past_present_share_buffer": True,
        "temperature": 1.0,
        "top_k": 50,
        "top_p": 1.0,
    }
    text = json.dumps({"model": model, "search": search}, indent=2)
    (folder / files.GENAI_CONFIG).write_text(text + "\n", "utf-8")
