"""A tiny embedding model of BERT's shape, made in milliseconds: its hidden states are rows of a table."""

import json

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

PIECES = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "hello", "world", "##ly", "new", "##s", "!", "[", "]", "sep", "é")
DIMENSIONS = 8
TABLE = np.random.default_rng(7).normal(size=(len(PIECES), DIMENSIONS)).astype(np.float32)

TOKENIZER = {
    "added_tokens": [{"id": n, "content": piece, "special": True} for n, piece in enumerate(PIECES[:4])],
    "truncation": {"max_length": 3},
    "normalizer": {"type": "BertNormalizer", "lowercase": True, "strip_accents": None},
    "pre_tokenizer": {"type": "BertPreTokenizer"},
    "post_processor": {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "[CLS]"}}, {"Sequence": {"id": "A"}}, {"SpecialToken": {"id": "[SEP]"}}],
    },
    "model": {"type": "WordPiece", "vocab": {piece: n for n, piece in enumerate(PIECES)}},
}
CONFIG = {"type": "bert-embedding", "context_length": 16, "pad_token_id": 0}


def write_tiny_embedder(folder, *, config=None, tokenizer=None, inputs=("input_ids", "attention_mask")):
    """Write the model to a folder, with changes to its configuration and tokenizer.json."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "genai_config.json").write_text(json.dumps({"model": CONFIG | (config or {})}))
    (folder / "tokenizer.json").write_text(json.dumps(TOKENIZER | (tokenizer or {})))
    graph = helper.make_graph(
        [helper.make_node("Gather", ["table", inputs[0]], ["last_hidden_state"])],
        "tiny",
        [helper.make_tensor_value_info(name, TensorProto.INT64, ["b", "s"]) for name in inputs],
        [helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, ["b", "s", DIMENSIONS])],
        [numpy_helper.from_array(TABLE, "table")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    onnx.save(model, folder / "model.onnx")
    return folder
