# /// script
# dependencies = ["onnxruntime-genai>=0.18,<0.19"]
# [tool.cupola-peer]
# title = "Bare onnxruntime-genai"
# variants = ["default"]
# speaks = "lines"
# own-interpreter = true
# note = "the baseline: a Python loop around og.Generator, one response at a time, without HTTP"
# [tool.cupola-peer.environment]
# ORT_GQA_DISABLE_FLASH_ATTENTION = "1"
# GLIBC_TUNABLES = "glibc.malloc.hugetlb=1"
# ///
"""A bare `og.Generator` loop. It reads one JSON request per line and prints the times of its tokens."""

import json
import sys
import time

import onnxruntime_genai as og
from job import Job, print_ready


def main() -> None:
    """Respond to every line until standard input ends."""
    job = Job.from_arguments()
    started = time.perf_counter()
    config = og.Config(str(job.model))
    threads = {"intra_op_num_threads": job.threads}
    config.overlay(json.dumps({"model": {"decoder": {"session_options": threads}}}))
    model = og.Model(config)
    print_ready("onnxruntime", "onnxruntime-genai", load_s=time.perf_counter() - started)
    for line in sys.stdin:
        request = json.loads(line)
        print(json.dumps({"times": generate(model, request["tokens"], request["new_tokens"])}), flush=True)


def generate(model: og.Model, tokens: list[int], new_tokens: int) -> list[float]:
    """Generate greedily; return the time of each token in seconds from the start."""
    length = len(tokens) + new_tokens
    started = time.perf_counter()
    params = og.GeneratorParams(model)
    params.set_search_options(max_length=length, min_length=length, do_sample=False)
    generator = og.Generator(model, params)
    generator.append_tokens(tokens)
    times = []
    for _ in range(new_tokens):
        generator.generate_next_token()
        generator.get_next_tokens()
        times.append(time.perf_counter() - started)
    return times


if __name__ == "__main__":
    main()
