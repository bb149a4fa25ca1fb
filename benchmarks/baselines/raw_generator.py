"""A bare `og.Generator` loop: `python -m benchmarks.baselines.raw_generator MODEL_FOLDER THREADS`."""

import json
import sys
import time

import onnxruntime_genai as og

from benchmarks.baselines.process import make_prompt, serve_requests


class RawGenerator:
    """Generates greedily, one response at a time, with a new `og.Generator` for each."""

    def __init__(self, folder: str, threads: int) -> None:
        config = og.Config(folder)
        config.overlay(json.dumps({"model": {"decoder": {"session_options": {"intra_op_num_threads": threads}}}}))
        self._model = og.Model(config)

    def run(self, prompt_tokens: int, new_tokens: int) -> dict[str, float]:
        """Return the time to first token in seconds, and the speed of prefill and decode in tokens per second."""
        length = prompt_tokens + new_tokens
        params = og.GeneratorParams(self._model)
        params.set_search_options(max_length=length, min_length=length, do_sample=False)
        generator = og.Generator(self._model, params)
        prompt = make_prompt(prompt_tokens)
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
        return {
            "ttft_s": first - started,
            "decode_per_s": (new_tokens - 1) / (ended - first) if new_tokens > 1 else 0.0,
            "prefill_per_s": prompt_tokens / (prefilled - started),
        }


if __name__ == "__main__":
    serve_requests(RawGenerator(sys.argv[1], int(sys.argv[2])).run)
