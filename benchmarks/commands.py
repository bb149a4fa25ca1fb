"""How long whole commands take, from the start of their process to its end.

`python -m benchmarks.commands [--rounds N] [--smoke]`. Starting the service ends when it is ready, with nothing loaded;
it is stopped after every round. The other commands run beside a service that runs. Nothing of the user's is touched:
settings, logs and the service's files lie in a folder of their own.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from benchmarks.harness import Figure, interleaved, neighbours, save, show

_START = "service start, until ready"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns 1 if a goal was missed and this was no smoke run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--smoke", action="store_true", help="one quick round, no result file, no verdict")
    options = parser.parse_args(arguments)
    rounds = 1 if options.smoke else options.rounds
    with tempfile.TemporaryDirectory() as folder, neighbours() as busy:
        machine = _Machine(Path(folder))
        values = interleaved(rounds, {_START: machine.start_ms}, pause_s=0, computes=False)
        machine.start_ms(stop=False)
        values |= interleaved(rounds, machine.beside_a_service(), pause_s=0, computes=False)
        machine.run("foundry", "service", "stop")
    figures = {name: Figure("ms", tuple(found)) for name, found in values.items()}
    checks = [
        ("from `service start` to ready under 1.5 s with nothing loaded", figures[_START].median < 1500),
        ("`service status` under 250 ms", figures["foundry service status"].median < 250),
        ("`model list`, warm, under 300 ms", figures["foundry model list"].median < 300),
    ]
    show("commands", figures, checks, busy[0])
    if options.smoke:
        return 0
    save("commands", figures, checks, rounds=rounds, others_cores=busy[0])
    return 0 if all(met for _, met in checks) else 1


class _Machine:
    """Runs the installed programs, with settings of their own."""

    def __init__(self, folder: Path) -> None:
        config = folder / "config.toml"
        config.touch()
        self._environment = {
            **os.environ,
            "CUPOLA_CONFIG": str(config),
            "CUPOLA_SERVICE_DIR": str(folder / "service"),
            "CUPOLA_SERVICE_LOG_DIR": str(folder / "logs"),
        }

    def run(self, program: str, *words: str) -> float:
        """Run a program to its end, and return the milliseconds that it took."""
        command = [str(Path(sys.executable).with_name(program)), *words]
        started = time.perf_counter()
        subprocess.run(command, env=self._environment, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return 1000 * (time.perf_counter() - started)

    def start_ms(self, *, stop: bool = True) -> float:
        took = self.run("foundry", "service", "start")
        if stop:
            self.run("foundry", "service", "stop")
        return took

    def beside_a_service(self) -> dict[str, Callable[[], float]]:
        commands = (
            ("foundry", "service", "status"),
            ("foundry", "service", "ps"),
            ("foundry", "model", "list"),
            ("foundry", "cache", "location"),
            ("cupola", "model", "list"),
            ("cupola", "ps"),
            ("cupola", "--version"),
        )
        return {" ".join(words): partial(self.run, *words) for words in commands}


if __name__ == "__main__":
    raise SystemExit(main())
