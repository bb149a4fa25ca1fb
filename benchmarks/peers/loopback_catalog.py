"""The part of Foundry Local's catalog service that lists models, served on this machine."""

import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

GALLERY_PATH = "/asset-gallery/v1.0/models"
"""The path that the URL of a catalog of Foundry Local 2.x must end with."""


@contextmanager
def loopback_catalog(entities: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Serve a catalog of these records on a free port; yields the base URL.

    Every request gets all records: in the format of version 2 under `GALLERY_PATH`, else in that of version 1.
    """
    page = {"value": entities, "totalCount": len(entities), "continuationToken": None}
    gallery_body = json.dumps(page).encode()
    index_body = json.dumps({"indexEntitiesResponse": {**page, "nextSkip": 0}}).encode()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            body = gallery_body if self.path.endswith(GALLERY_PATH) else index_body
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *_: object) -> None:  # noqa: A002 - the name is the base class's
            """Log nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


def build_entity(
    name: str, alias: str, size_bytes: int, *, version: int = 1, tags: Mapping[str, str] = {}
) -> dict[str, Any]:
    """Build the catalog's record of a chat model for the CPU.

    Args:
        name: Name of the variant.
        alias: Name of the model.
        size_bytes: Size of its files.
        version: Version of the variant.
        tags: Further tags.
    """
    return {
        "type": "models",
        "kind": "Versioned",
        "labels": ["latest"],
        "name": name,
        "assetId": f"azureml://registries/azureml/models/{name}/versions/{version}",
        "entityId": f"{name}:{version}",
        "annotations": {
            "archived": "false",
            "tags": {"alias": alias, "foundryLocal": "", "task": "chat-completion", "license": "apache-2.0", **tags},
            "systemCatalogData": {
                "publisher": "Microsoft",
                "displayName": alias,
                "maxOutputTokens": 8192,
                "textContextWindow": 8192,
                "inferenceTasks": ["chat-completion"],
                "deploymentOptions": ["Foundry Local on Devices"],
            },
        },
        "properties": {
            "id": f"{name}:{version}",
            "name": name,
            "version": version,
            "creationContext": {"createdTime": "2026-06-02T07:03:01.3390586+00:00"},
            "variantInfo": {
                "parents": [{"assetId": f"azureml://registries/azureml/models/{alias}/versions/1"}],
                "variantMetadata": {
                    "modelType": "ONNX",
                    "quantization": ["RTN"],
                    "device": "cpu",
                    "executionProvider": "CPUExecutionProvider",
                    "fileSizeBytes": size_bytes,
                },
            },
        },
    }
