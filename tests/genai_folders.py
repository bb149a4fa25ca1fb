"""Folders that look like models, for tests that run none."""

import json


def genai_folder(folder, *, providers=(), kind="llama", context=2048, **files):
    """Write a folder as model builders do. `files` are more of them, "name__json" for name.json."""
    folder.mkdir(parents=True, exist_ok=True)
    options = [{name: values} for name, values in providers]
    model = {
        "type": kind,
        "context_length": context,
        "decoder": {"filename": "model.onnx", "session_options": {"provider_options": options}},
    }
    (folder / "genai_config.json").write_text(json.dumps({"model": model, "search": {}}))
    (folder / "model.onnx").write_bytes(b"\0" * 1000)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)
    return folder
