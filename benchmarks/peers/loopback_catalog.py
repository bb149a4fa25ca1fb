"""As much of the catalog service as Foundry Local needs to list one model that lies in its cache already."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

GALLERY = "/asset-gallery/v1.0/models"
"""What the path of a catalog of Foundry Local 2.x must end with."""


@contextmanager
def loopback_catalog(entities: list[dict[str, Any]]) -> Iterator[str]:
    """Serve the records on a free port of this machine; yields the base URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            found = {"value": entities, "totalCount": len(entities), "continuationToken": None}
            answer = found if self.path.endswith(GALLERY) else {"indexEntitiesResponse": {**found, "nextSkip": 0}}
            body = json.dumps(answer).encode()
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *_: object) -> None:  # noqa: A002 - the name is the base class's
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()


def entity(name: str, alias: str, size_bytes: int) -> dict[str, Any]:
    """Describe a chat model for the CPU, version 1, as the catalog does."""
    return {
        "type": "models",
        "kind": "Versioned",
        "labels": ["latest"],
        "name": name,
        "assetId": f"azureml://registries/azureml/models/{name}/versions/1",
        "entityId": f"{name}:1",
        "annotations": {
            "archived": "false",
            "tags": {"alias": alias, "foundryLocal": "", "task": "chat-completion", "license": "apache-2.0"},
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
            "id": f"{name}:1",
            "name": name,
            "version": 1,
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
