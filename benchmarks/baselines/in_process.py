"""Cupola's own session without worker, service and HTTP: `python -m benchmarks.baselines.in_process MODEL_FOLDER`."""

import itertools
import sys
import time
from pathlib import Path

from benchmarks.baselines.process import make_prompt, serve_requests
from cupola.frontend import Device, Sampling
from cupola.provider import Limits, ModelFiles, Session, Turn
from cupola_providers.cpu import CpuOptions, CpuProvider


class InProcess:
    """Drives a session of the CPU provider as the loop of a worker does."""

    def __init__(self, folder: str) -> None:
        files = ModelFiles("benchmark", Path(folder))
        session = CpuProvider().load(files, Device(CpuProvider.name, "CPU"), CpuOptions(), Limits())
        assert isinstance(session, Session)
        self._session = session
        self._ids = itertools.count(1)

    def run(self, rows: int, prompt_tokens: int, new_tokens: int) -> dict[str, float]:
        """Run `rows` turns at once; return the tokens per second of all together, prefill included."""
        active = set()
        for _ in range(rows):
            turn = next(self._ids)
            prompt = make_prompt(prompt_tokens, seed=turn)
            self._session.admit(Turn(turn, prompt, new_tokens, Sampling(temperature=0.0), ignore_eos=True))
            active.add(turn)
        started = time.perf_counter()
        tokens = 0
        while active:
            for event in self._session.step():
                tokens += len(event.tokens)
                if event.finish or event.error:
                    active.discard(event.turn_id)
        return {"total_per_s": tokens / (time.perf_counter() - started)}


if __name__ == "__main__":
    serve_requests(InProcess(sys.argv[1]).run)
