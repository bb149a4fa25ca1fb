"""How long whole commands take, from the start of their process to its end.

`python -m benchmarks.commands [--rounds N] [--smoke]`. `service start` ends when the service is ready with nothing
loaded; the service is stopped after every round. The other commands run beside a running service. Settings, logs and
the service's files are in a temporary folder, so nothing of the user's is touched.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from benchmarks.harness import build_parser, finish, metered, run_interleaved
from cupola_server.bench.statistics import Figure

_START = "service start, until ready"
_COMMANDS = (
    ("foundry", "service", "status"),
    ("foundry", "service", "ps"),
    ("foundry", "model", "list"),
    ("foundry", "cache", "location"),
    ("cupola", "model", "list"),
    ("cupola", "ps"),
    ("cupola", "--version"),
)
"""Commands to run beside a running service."""


class _Programs:
    """Runs the installed programs with settings of their own."""

    def __init__(self, folder: Path) -> None:
        config = folder / "config.toml"
        config.touch()
        self._environment = {
            **os.environ,
            "CUPOLA_CONFIG": str(config),
            "CUPOLA_SERVICE_DIR": str(folder / "service"),
            "CUPOLA_SERVICE_LOG_DIR": str(folder / "logs"),
        }

    def run_ms(self, program: str, *words: str) -> float:
        """Run a program to its end and return how long it took in milliseconds."""
        command = [str(Path(sys.executable).with_name(program)), *words]
        started = time.perf_counter()
        subprocess.run(command, env=self._environment, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return 1000 * (time.perf_counter() - started)

    def start_and_stop_ms(self) -> float:
        """Start the service and stop it; return how long starting took in milliseconds."""
        took_ms = self.run_ms("foundry", "service", "start")
        self.run_ms("foundry", "service", "stop")
        return took_ms

    def tasks(self) -> dict[str, Callable[[], float]]:
        """Return the commands that run beside a running service."""
        return {" ".join(words): partial(self.run_ms, *words) for words in _COMMANDS}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns 1 if a goal was missed, except in smoke runs."""
    options = build_parser(__doc__, rounds=15, model=False).parse_args(arguments)
    rounds = 1 if options.smoke else options.rounds
    with tempfile.TemporaryDirectory() as folder, metered() as meter:
        programs = _Programs(Path(folder))
        values = run_interleaved(rounds, {_START: programs.start_and_stop_ms}, pause_s=0, computes=False)
        programs.run_ms("foundry", "service", "start")
        values |= run_interleaved(rounds, programs.tasks(), pause_s=0, computes=False)
        programs.run_ms("foundry", "service", "stop")
    figures = {name: Figure("ms", tuple(found)) for name, found in values.items()}
    checks = [
        ("from `service start` to ready under 1.5 s with nothing loaded", figures[_START].median < 1500),
        ("`service status` under 250 ms", figures["foundry service status"].median < 250),
        ("`model list`, warm, under 300 ms", figures["foundry model list"].median < 300),
    ]
    return finish("commands", "commands", figures, checks, meter=meter, smoke=options.smoke, rounds=rounds)


if __name__ == "__main__":
    raise SystemExit(main())
