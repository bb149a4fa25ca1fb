# /// script
# dependencies = ["foundry-local-sdk==2.2.1"]
# [tool.cupola-peer]
# title = "Foundry Local 2.2.1"
# variants = ["default", "tuned"]
# note = "tuned: intra_op_num_threads in genai_config.json; by default it computes on one core"
# ///
"""Microsoft's Foundry Local 2.2.1: the service of its SDK, on the model's own files, listed by a catalog of ours."""

import json
import time
import warnings

from foundry_local_sdk.configuration import Configuration
from foundry_local_sdk.foundry_local_manager import FoundryLocalManager
from job import Job, copy_model, ready, serve_until_told, size_of
from loopback_catalog import GALLERY, entity, loopback_catalog

NAME, ALIAS = "benchmark-generic-cpu", "benchmark"


def main() -> None:
    """Serve until told to stop."""
    warnings.simplefilter("ignore", DeprecationWarning)
    job = Job.from_arguments()
    threads = job.threads if job.variant == "tuned" else None
    folder = copy_model(job.model, job.work / "cache" / "Microsoft" / f"{NAME}-1" / "v1", threads=threads)
    told = {"Name": f"{NAME}:1", "PromptTemplate": None}
    (folder / "inference_model.json").write_text(json.dumps(told), "utf-8")
    with loopback_catalog([entity(NAME, ALIAS, size_of(folder))]) as catalog:
        settings = Configuration(
            app_name="cupola-benchmark",
            app_data_dir=str(job.work / "data"),
            model_cache_dir=str(job.work / "cache"),
            catalog_urls=[(catalog + GALLERY, None)],
            web=Configuration.WebService(urls="http://127.0.0.1:0"),
            disable_nonessential_telemetry=True,
        )
        FoundryLocalManager.initialize(settings)
        manager = FoundryLocalManager.instance
        model = manager.get_catalog().get_model(ALIAS)
        started = time.perf_counter()
        model.load()
        load_s = time.perf_counter() - started
        manager.start_web_service()
        packages = ("foundry-local-sdk", "onnxruntime", "onnxruntime-genai-core")
        ready(*packages, load_s=load_s, url=manager.urls[0].rstrip("/") + "/v1", model=model.id)
        serve_until_told()


if __name__ == "__main__":
    main()
