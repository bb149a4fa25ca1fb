"""Models as the catalog knows them."""

import hashlib
import io
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

_NOT_SERVED = ("cupola.manifest.json", "inference_model.json")


@dataclass
class Variant:
    """One variant of a model. `files` maps blob names to contents or paths; `tags` and `catalog` overrule."""

    name: str
    version: int = 1
    alias: str = ""
    device: str = "cpu"
    provider: str = "CPUExecutionProvider"
    publisher: str = "Microsoft"
    files: dict = field(default_factory=dict)
    size_bytes: int = 0
    tags: dict = field(default_factory=dict)
    catalog: dict = field(default_factory=dict)
    labels: tuple = ("latest",)

    @classmethod
    def of_folder(cls, folder, name, *, inside="v1", **fields):
        """Serve the files of a model's folder, below a version folder as Azure has it."""
        paths = [path for path in Path(folder).rglob("*") if path.is_file() and path.name not in _NOT_SERVED]
        files = {f"{inside}/{path.relative_to(folder).as_posix()}": path for path in paths}
        return cls(name, files=files, size_bytes=sum(path.stat().st_size for path in paths), **fields)

    @property
    def id(self):
        return f"{self.name}:{self.version}"

    @property
    def asset_id(self):
        return f"azureml://registries/azureml/models/{self.name}/versions/{self.version}"

    @property
    def parent(self):
        return f"azureml://registries/azureml/models/{self.alias or self.name}/versions/1"

    def entity(self):
        """The full form: all of v1's answers, and one of v2's."""
        template = {"prompt": "<|user|>\n{Content}<|end|>\n<|assistant|>"}
        return {
            "type": "models",
            "kind": "Versioned",
            "labels": list(self.labels),
            "name": self.name,
            "assetId": self.asset_id,
            "entityId": self.id,
            "annotations": {
                "archived": "false",
                "tags": {
                    "alias": self.alias or self.name,
                    "foundryLocal": "",
                    "task": "chat-completion",
                    "license": "apache-2.0",
                    "licenseDescription": "By its makers.",
                    "supportsToolCalling": "true",
                    "promptTemplate": json.dumps(template),
                    **self.tags,
                },
                "systemCatalogData": {
                    "publisher": self.publisher,
                    "displayName": self.name.title(),
                    "maxOutputTokens": 2048,
                    "textContextWindow": 8192,
                    "inferenceTasks": ["chat-completion"],
                    "modelCapabilities": ["tool-calling"],
                    "deploymentOptions": ["Foundry Local on Devices"],
                    **self.catalog,
                },
            },
            "properties": {
                "id": self.id,
                "name": self.name,
                "version": self.version,
                "creationContext": {"createdTime": "2026-06-02T07:03:01.3390586+00:00"},
                "variantInfo": {"parents": [{"assetId": self.parent}], "variantMetadata": self._metadata()},
            },
        }

    def summary(self):
        """The short form, of v2 alone."""
        catalog = self.entity()["annotations"]["systemCatalogData"]
        return {
            "assetId": self.asset_id,
            "name": self.name,
            "version": str(self.version),
            "alias": self.alias,
            "displayName": catalog["displayName"],
            "publisher": self.publisher,
            "license": "apache-2.0",
            "licenseDescription": "By its makers.",
            "minFLVersion": catalog.get("minFLVersion", "0.1.0"),
            "createdTime": "2026-06-02T07:03:01.3390586+00:00",
            "inferenceTasks": ["chat-completion"],
            "modelCapabilities": ["tool-calling"],
            "deploymentOptions": catalog["deploymentOptions"],
            "modelLimits": {
                "textLimits": {"inputContextWindow": 8192, "maxOutputTokens": 2048},
                "supportedInputModalities": ["text"],
                "supportedOutputModalities": ["text"],
            },
            "variantInformation": {"parents": [{"assetId": self.parent}], "variantMetadata": self._metadata()},
        }

    def _metadata(self):
        return {
            "modelType": "ONNX",
            "quantization": ["RTN"],
            "device": self.device,
            "executionProvider": self.provider,
            "fileSizeBytes": self.size_bytes,
            "vRamFootprintBytes": self.size_bytes // 2,
        }


@dataclass
class Blob:
    """One file of a container: bytes, or a path."""

    name: str
    content: object
    wrong_md5: bool = False
    announce_md5: bool = True

    def __post_init__(self):
        is_path = isinstance(self.content, Path)
        self.size = self.content.stat().st_size if is_path else len(self.content)
        moment = self.content.stat().st_mtime if is_path else 1_780_000_000
        self.modified = datetime.fromtimestamp(moment, UTC).strftime("%a, %d %b %Y %H:%M:%S GMT")
        self._md5 = None

    @property
    def md5(self):
        if self._md5 is None:
            with self.open() as file:
                self._md5 = hashlib.file_digest(file, "md5").digest()
        return bytes(16) if self.wrong_md5 else self._md5

    @property
    def etag(self):
        return f'"0x{hashlib.sha256(f"{self.name}{self.size}{self.modified}".encode()).hexdigest()[:15].upper()}"'

    def open(self):
        return self.content.open("rb") if isinstance(self.content, Path) else io.BytesIO(self.content)
