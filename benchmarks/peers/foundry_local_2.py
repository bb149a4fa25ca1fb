# /// script
# dependencies = ["foundry-local-sdk==2.2.1"]
# [tool.cupola-peer]
# title = "Foundry Local 2.2.1"
# variants = ["default", "tuned"]
# note = "tuned: intra_op_num_threads in genai_config.json; the default uses one core"
# ///
"""Microsoft's Foundry Local 2.2.1: the service of its SDK on the model's files, with a catalog on this machine."""

import json
import time
import warnings

from foundry_local_sdk.configuration import Configuration
from foundry_local_sdk.foundry_local_manager import FoundryLocalManager
from job import Job, copy_model, folder_bytes, print_ready, wait_until_stopped
from loopback_catalog import GALLERY_PATH, build_entity, loopback_catalog

NAME, ALIAS = "benchmark-generic-cpu", "benchmark"


def main() -> None:
    """Serve until standard input ends."""
    warnings.simplefilter("ignore", DeprecationWarning)
    job = Job.from_arguments()
    threads = job.threads if job.variant == "tuned" else None
    folder = copy_model(job.model, job.work / "cache" / "Microsoft" / f"{NAME}-1" / "v1", threads=threads)
    record = {"Name": f"{NAME}:1", "PromptTemplate": None}
    (folder / "inference_model.json").write_text(json.dumps(record), "utf-8")
    with loopback_catalog([build_entity(NAME, ALIAS, folder_bytes(folder))]) as catalog:
        settings = Configuration(
            app_name="cupola-benchmark",
            app_data_dir=str(job.work / "data"),
            model_cache_dir=str(job.work / "cache"),
            catalog_urls=[(catalog + GALLERY_PATH, None)],
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
        print_ready(*packages, load_s=load_s, url=manager.urls[0].rstrip("/") + "/v1", model=model.id)
        wait_until_stopped()


if __name__ == "__main__":
    main()
