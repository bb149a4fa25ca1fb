"""The services, over real HTTP."""

import json
import threading
from dataclasses import asdict, dataclass
from http.server import ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from azure_stand_in.catalog import Catalog
from azure_stand_in.faults import Fault, Faults
from azure_stand_in.handler import Handler
from azure_stand_in.variants import Blob
from cupola.settings import AzureSettings

GALLERY = "/asset-gallery/v1.0/models"
REGISTRY = "/modelregistry/v1.0/registry/models/nonazureaccount"


@dataclass
class Asked:
    """One request."""

    service: str
    path: str
    query: dict
    headers: dict
    body: bytes

    @property
    def json(self):
        return json.loads(self.body)


class AzureStandIn:
    """Serves variants until it is left.

    Attributes:
        catalog: What is listed, and how.
        faults: See `fail`.
        down: Regions that close every connection.
        region: The one that answers say they come from.
        uses: How many requests one signed address is good for; None without limit.
        blobs_a_page: Most blobs in one page of a container's listing.
        announce_md5: Whether the container tells digests.
        requests: Everything asked, in order.
        go_on: Set it to let answers go that a fault holds.
    """

    def __init__(self, *variants, form="entity", paging="token", page_size=0, port=0, seed=0):
        self.catalog = Catalog([*variants], form=form, paging=paging, page_size=page_size)
        self.faults = Faults(seed)
        self.down, self.wrong_md5 = set(), set()
        self.region = "westeurope"
        self.uses, self.blobs_a_page, self.announce_md5 = None, 5000, True
        self.requests = []
        self.go_on = threading.Event()
        self._port = port
        self._signed = {}
        self._blobs = {}
        self._lock = threading.Lock()

    def __enter__(self):
        self._server = _Server(("127.0.0.1", self._port), type("Bound", (Handler,), {"azure": self}))
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        return self

    def __exit__(self, *_):
        self.go_on.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def gallery_url(self):
        return self.url + GALLERY

    @property
    def index_url(self):
        return self.url + "/api/{region}/ux/v1.0"

    @property
    def registry_url(self):
        return self.url + "/regions/{region}" + REGISTRY

    def settings(self, protocol="v2", **more):
        """Settings that lead here."""
        url = self.index_url if protocol == "v1" else self.gallery_url
        return AzureSettings(
            **{"enabled": True, "protocol": protocol, "catalog_url": url, "registry_url": self.registry_url, **more}
        )

    @property
    def variables(self):
        """The same, as environment variables for another process."""
        return {
            "CUPOLA_AZURE_ENABLED": "true",
            "CUPOLA_AZURE_CATALOG_URL": self.gallery_url,
            "CUPOLA_AZURE_REGISTRY_URL": self.registry_url,
        }

    def fail(self, where, **fault):
        """Let something go wrong; see `Fault`."""
        self.faults.add(Fault(where, **fault))

    def expire_addresses(self):
        """Let every address that was signed so far be refused from now on."""
        with self._lock:
            self._signed.clear()

    def asked(self, service):
        return [asked for asked in self.requests if asked.service == service]

    # What follows is for the handler.

    def note(self, service, address, headers, body):
        parts = urlsplit(address)
        query = {name: values[-1] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
        lowered = {name.lower(): value for name, value in headers.items()}
        asked = Asked(service, parts.path, query, lowered, body)
        self.requests.append(asked)
        return asked

    def variant(self, asset_id):
        return next((each for each in self.catalog.variants if each.asset_id == asset_id), None)

    def sign(self, variant):
        """Return the address of a container, good until it expires."""
        with self._lock:
            signature = f"s{len(self._signed)}x{self.faults.random.getrandbits(64):x}"
            self._signed[signature] = 0
        query = f"sv=2026-02-06&se=2099-01-01T00%3A00%3A00Z&sr=c&sp=rl&sig={signature}%3D"
        return f"{self.url}/blobs/{variant.name}-{variant.version}?{query}"

    def is_signed(self, query):
        """Tell whether a request is signed, and count it."""
        with self._lock:
            signature = query.get("sig", "").rstrip("=")
            if signature not in self._signed:
                return False
            self._signed[signature] += 1
            return self.uses is None or self._signed[signature] <= self.uses

    def blobs(self, container):
        """Return the blobs of a container by name, None if there is no such container."""
        for each in self.catalog.variants:
            if f"{each.name}-{each.version}" == container:
                with self._lock:
                    return {name: self._blob(each, name) for name in sorted(each.files)}
        return None

    def _blob(self, variant, name):
        key = variant.id, name
        if key not in self._blobs:
            self._blobs[key] = Blob(name, variant.files[name])
        blob = self._blobs[key]
        blob.wrong_md5, blob.announce_md5 = name in self.wrong_md5, self.announce_md5
        return blob

    def state(self):
        """What another process may want to know."""
        return {
            "requests": [[asked.service, asked.path, asked.headers.get("range", "")] for asked in self.requests],
            "struck": [asdict(fault) for fault in self.faults.struck],
        }


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, *_):
        """Say nothing: clients that leave are what this is for."""
