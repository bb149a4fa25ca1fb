"""What the execution providers share: tokenizers, sampling and the kinds of session. Imported in workers alone.

Providers of others may build on four modules, which need no onnxruntime-genai: `config` reads a model's configuration,
`tokenizer` renders and encodes, `row` says what a chosen token means for a turn, and `sampling` chooses it. All else
may change with any release. `examples/cupola-ggml` shows how.
"""
