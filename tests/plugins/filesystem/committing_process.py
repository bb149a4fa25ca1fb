"""A process that dies while it commits: `committing_process.py CACHE N` ends itself at its Nth touch of a file.

Prints how often it touched files when it comes to its end.
"""

import os
import sys
from pathlib import Path

import anyio

from cupola.cache import ModelInfo
from cupola_plugins.filesystem import FilesystemCache

MODEL = ModelInfo(id="tiny-generic-cpu:1", alias="tiny", source="test", publisher="Publisher")
FILES = {"genai_config.json": b"{}", "model.onnx": b"\1" * 10_000, "v1/tokenizer.json": b"{ }"}
TOUCHES = ("open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.scandir", "os.listdir")


async def main(cache, last):
    touched = 0

    def count(event, arguments):
        nonlocal touched
        if event in TOUCHES and str(arguments[0]).startswith(cache):
            touched += 1
            if touched == last:
                os._exit(9)

    async with await FilesystemCache(Path(cache)).reserve(MODEL) as staging:
        for name, content in FILES.items():
            (staging.path / name).parent.mkdir(exist_ok=True)
            (staging.path / name).write_bytes(content)
        sys.addaudithook(count)
        await staging.commit()
    print(touched)


if __name__ == "__main__":
    anyio.run(main, sys.argv[1], int(sys.argv[2]))
