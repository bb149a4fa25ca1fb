# /// script
# dependencies = ["foundry-local-sdk==1.2.4"]
# [tool.cupola-peer]
# title = "Foundry Local 1.2.4"
# variants = ["default", "tuned"]
# note = "tuned: intra_op_num_threads in genai_config.json"
# ///
"""Microsoft's Foundry Local 1.2.4: the service of its SDK, with the model copied to its cache folder."""

import json
import time

from foundry_local_sdk import Configuration, FoundryLocalManager
from job import Job, copy_model, print_ready, wait_until_stopped
from loopback_catalog import loopback_catalog

NAME = "benchmark-generic-cpu"


def main() -> None:
    """Serve until standard input ends."""
    job = Job.from_arguments()
    threads = job.threads if job.variant == "tuned" else None
    folder = copy_model(job.model, job.work / "cache" / "Local" / NAME, threads=threads)
    record = {"Name": NAME, "PromptTemplate": None}
    (folder / "inference_model.json").write_text(json.dumps(record), "utf-8")
    with loopback_catalog([]) as catalog:
        settings = Configuration(
            app_name="cupola-benchmark",
            app_data_dir=str(job.work / "data"),
            model_cache_dir=str(job.work / "cache"),
            web=Configuration.WebService(urls="http://127.0.0.1:0"),
            additional_settings={"AzureCatalogUri": catalog},
        )
        FoundryLocalManager.initialize(settings)
        manager = FoundryLocalManager.instance
        model = next(model for model in manager.catalog.get_cached_models() if model.id.startswith(NAME))
        started = time.perf_counter()
        model.load()
        load_s = time.perf_counter() - started
        manager.start_web_service()
        packages = ("foundry-local-sdk", "foundry-local-core", "onnxruntime-gpu", "onnxruntime-genai-cuda")
        print_ready(*packages, load_s=load_s, url=manager.urls[0].rstrip("/") + "/v1", model=model.id)
        wait_until_stopped()


if __name__ == "__main__":
    main()
