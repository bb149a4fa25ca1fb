"""The runtime that all built-in execution providers share: sessions, tokenizers and sampling. Imported in workers only.

Third-party providers may use four modules, none of which needs onnxruntime-genai: `config` (genai_config.json),
`tokenizer` (chat templates and encoding), `row` (the state of one turn) and `sampling` (choosing tokens). Other modules
may change in any release. `examples/cupola-ggml` is a complete example.
"""
