"""The floor that others are compared with: a plain `og.Generator` loop, in a process of its own.

It reads one JSON request a line, `{"prompt_tokens": 20, "new_tokens": 128}`, and answers each with one line: time to
the first token, decode tokens/s and prefill tokens/s. `python -m benchmarks.raw_generator MODEL_FOLDER THREADS`.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self

ENVIRONMENT = {"ORT_GQA_DISABLE_FLASH_ATTENTION": "1", "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
"""What Cupola sets for its own CPU workers, so that the floor is not lowered."""


class RawGenerator:
    """The process, as seen by a benchmark."""

    def __init__(self, folder: Path, threads: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.raw_generator", str(folder), str(threads)],
            env={**os.environ, **ENVIRONMENT},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, prompt_tokens: int, new_tokens: int) -> dict[str, float]:
        """Generate greedily once; returns `ttft_s`, `decode_per_s` and `prefill_per_s`."""
        assert self._process.stdin
        assert self._process.stdout
        print(json.dumps([prompt_tokens, new_tokens]), file=self._process.stdin, flush=True)
        answer: dict[str, float] = json.loads(self._process.stdout.readline())
        return answer

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.communicate(timeout=30)


def _serve(folder: str, threads: int) -> None:
    import onnxruntime_genai as og  # noqa: PLC0415 - the benchmark's own process does without it

    config = og.Config(folder)
    config.overlay(json.dumps({"model": {"decoder": {"session_options": {"intra_op_num_threads": threads}}}}))
    model = og.Model(config)
    for line in sys.stdin:
        prompt_tokens, new_tokens = json.loads(line)
        params = og.GeneratorParams(model)
        params.set_search_options(
            max_length=prompt_tokens + new_tokens, min_length=prompt_tokens + new_tokens, do_sample=False
        )
        generator = og.Generator(model, params)
        prompt = [1000 + 37 * number % 40000 for number in range(prompt_tokens)]
        started = time.perf_counter()
        generator.append_tokens(prompt)
        prefilled = time.perf_counter()
        generator.generate_next_token()
        generator.get_next_tokens()
        first = time.perf_counter()
        for _ in range(new_tokens - 1):
            generator.generate_next_token()
            generator.get_next_tokens()
        ended = time.perf_counter()
        answer = {
            "ttft_s": first - started,
            "decode_per_s": (new_tokens - 1) / (ended - first),
            "prefill_per_s": prompt_tokens / (prefilled - started),
        }
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    _serve(sys.argv[1], int(sys.argv[2]))
