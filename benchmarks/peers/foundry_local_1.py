# /// script
# dependencies = ["foundry-local-sdk==1.2.4"]
# [tool.cupola-peer]
# title = "Foundry Local 1.2.4"
# variants = ["default", "tuned"]
# note = "tuned: intra_op_num_threads in genai_config.json"
# ///
"""Microsoft's Foundry Local 1.2.4: the service of its SDK, with the model dropped into its cache folder."""

import json
import time

from foundry_local_sdk import Configuration, FoundryLocalManager
from job import Job, copy_model, ready, serve_until_told
from loopback_catalog import loopback_catalog

NAME = "benchmark-generic-cpu"


def main() -> None:
    """Serve until told to stop."""
    job = Job.from_arguments()
    threads = job.threads if job.variant == "tuned" else None
    folder = copy_model(job.model, job.work / "cache" / "Local" / NAME, threads=threads)
    told = {"Name": NAME, "PromptTemplate": None}
    (folder / "inference_model.json").write_text(json.dumps(told), "utf-8")
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
        model = next(each for each in manager.catalog.get_cached_models() if each.id.startswith(NAME))
        started = time.perf_counter()
        model.load()
        load_s = time.perf_counter() - started
        manager.start_web_service()
        packages = ("foundry-local-sdk", "foundry-local-core", "onnxruntime-gpu", "onnxruntime-genai-cuda")
        ready(*packages, load_s=load_s, url=manager.urls[0].rstrip("/") + "/v1", model=model.id)
        serve_until_told()


if __name__ == "__main__":
    main()
