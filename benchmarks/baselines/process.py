"""Both ends of a baseline: the benchmark's, which starts the process, and the loop of the process itself."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

ENVIRONMENT = {"ORT_GQA_DISABLE_FLASH_ATTENTION": "1", "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
"""Variables that Cupola sets for its own CPU workers, so that baselines are as fast as they can be."""


class BaselineProcess:
    """A baseline's process, as a benchmark sees it; leaving the context ends it.

    Args:
        module: The module to run, "benchmarks.baselines.NAME".
        arguments: Its command line arguments.
    """

    def __init__(self, module: str, *arguments: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            env={**os.environ, **ENVIRONMENT},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.communicate(timeout=30)

    def run(self, **request: object) -> dict[str, float]:
        """Send one request and return the measured values by name."""
        assert self._process.stdin
        assert self._process.stdout
        print(json.dumps(request), file=self._process.stdin, flush=True)
        values: dict[str, float] = json.loads(self._process.stdout.readline())
        return values


def serve_requests(run: Callable[..., dict[str, Any]]) -> None:
    """Call `run` with the fields of every line of standard input, and print what it returns, until input ends."""
    for line in sys.stdin:
        print(json.dumps(run(**json.loads(line))), flush=True)


def make_prompt(length: int, seed: int = 0) -> list[int]:
    """Make a prompt of token ids with a different beginning for every seed."""
    return [1000 + (37 * number + 7919 * seed) % 40000 for number in range(length)]
