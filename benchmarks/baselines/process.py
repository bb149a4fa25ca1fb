"""Both ends of a floor: the benchmark's, which starts the process, and the process's own loop."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self

ENVIRONMENT = {"ORT_GQA_DISABLE_FLASH_ATTENTION": "1", "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
"""What Cupola sets for its own CPU workers, so that no floor is lowered."""


class Floor:
    """A floor's process, as seen by a benchmark.

    Args:
        module: What to run, `benchmarks.floors.NAME`.
        arguments: For it.
        environment: Variables beside those that Cupola sets for its workers.
    """

    def __init__(self, module: str, *arguments: str, environment: Mapping[str, str] = {}) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            env={**os.environ, **ENVIRONMENT, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, **request: object) -> dict[str, float]:
        """Have it do one piece of work; returns its figures."""
        assert self._process.stdin
        assert self._process.stdout
        print(json.dumps(request), file=self._process.stdin, flush=True)
        answer: dict[str, float] = json.loads(self._process.stdout.readline())
        return answer

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.communicate(timeout=30)


def serve(work: Callable[..., dict[str, Any]]) -> None:
    """Answer every line of standard input until it ends."""
    for line in sys.stdin:
        print(json.dumps(work(**json.loads(line))), flush=True)


def prompt_of(length: int, seed: int = 0) -> list[int]:
    """Make a prompt of tokens that starts differently for every seed."""
    return [1000 + (37 * number + 7919 * seed) % 40000 for number in range(length)]
