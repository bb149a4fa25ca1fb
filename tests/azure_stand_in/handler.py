"""One connection: which service is meant, and how its answer goes wrong if it has to."""

import base64
import contextlib
import json
import re
import time
from http.server import BaseHTTPRequestHandler
from urllib.parse import unquote, urlsplit
from xml.sax.saxutils import escape

_BLOCK = 1 << 18


class Handler(BaseHTTPRequestHandler):
    """Routes: asset gallery, entities index, registry, blobs; and `/_stand_in` for another process's switches."""

    protocol_version = "HTTP/1.1"
    timeout = 30
    azure: object
    disable_nagle_algorithm = True

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        path = urlsplit(self.path).path
        if path.startswith("/_stand_in/"):
            self._switch(path.rpartition("/")[2], json.loads(body or b"{}"))
        elif path.endswith("/asset-gallery/v1.0/models"):
            is_detection = json.loads(body).get("filters") == []
            self._list("detection" if is_detection else "catalog", body, self.azure.catalog.gallery)
        elif match := re.fullmatch(r"/api/(\w+)/ux/v1.0/entities/crossRegion", path):
            self._list("catalog", body, self.azure.catalog.index, region=match[1])
        else:
            self._send(404, b"no such service")

    def do_GET(self):
        path = urlsplit(self.path).path
        if path == "/_stand_in/state":
            self._send(200, json.dumps(self.azure.state()).encode())
        elif match := re.fullmatch(r"/regions/(\w+)/modelregistry/v1.0/registry/models/nonazureaccount", path):
            self._locate(match[1])
        elif match := re.fullmatch(r"/blobs/([^/]+)(?:/(.+))?", path):
            self._blob_service(match[1], unquote(match[2] or ""))
        else:
            self._send(404, b"no such service")

    def _list(self, service, body, answer, region=""):
        asked = self.azure.note(service, self.path, self.headers, body)
        if region in self.azure.down:
            self._hang_up()
        elif asked.headers.get("user-agent") != "AzureAiStudio":
            self._send(400, b'{"error":"User-Agent"}')
        elif not self._fails(service, self.path):
            headers = {"azureml-served-by-cluster": f"vienna-{region or self.azure.region}-01"}
            request = json.loads(body)
            content = b'{"value":[]}' if service == "detection" else json.dumps(answer(request)).encode()
            self._send(200, content, headers, kind="application/json; charset=utf-8")

    def _locate(self, region):
        asked = self.azure.note("registry", self.path, self.headers, b"")
        variant = self.azure.variant(asked.query.get("assetId", ""))
        if region in self.azure.down:
            self._hang_up()
        elif not self._fails("registry", self.path):
            if variant is None:
                self._send(404, b'{"error":{"code":"UserError","message":"Asset not found"}}')
            else:
                answer = {"blobSasUri": self.azure.sign(variant), "modelEntity": {"description": "A model."}}
                self._send(200, json.dumps(answer).encode(), kind="application/json")

    def _blob_service(self, container, name):
        service = "blob" if name else "container"
        asked = self.azure.note(service, self.path, self.headers, b"")
        blobs = self.azure.blobs(container)
        if not self.azure.is_signed(asked.query):
            self._send(403, _xml_error("AuthenticationFailed", "Signature not valid in the specified time frame"))
        elif blobs is None or (name and name not in blobs):
            self._send(404, _xml_error("BlobNotFound", "The specified blob does not exist."))
        elif not self._fails(service, name or container):
            if name:
                self._send_blob(blobs[name])
            else:
                content = listing(blobs.values(), asked.query, self.azure.blobs_a_page)
                self._send(200, content, kind="application/xml")

    def _fails(self, service, path):
        """Take the next fault; True if it has answered already."""
        self._fault = fault = self.azure.faults.strike(service, path)
        if fault is None:
            return False
        if fault.hold:
            self.azure.go_on.wait()
        if fault.status:
            headers = {"Retry-After": fault.retry_after} if fault.retry_after else {}
            self._send(fault.status, b"a fault", headers)
        return bool(fault.status)

    def _send_blob(self, blob):
        fault = self._fault
        match = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or self.headers.get("x-ms-range") or "")
        is_changed = self.headers.get("If-Range", blob.etag) not in (blob.etag, blob.modified)
        is_part = match and not is_changed and not (fault and fault.whole)
        start = int(match[1]) if is_part else 0
        end = min(int(match[2] or blob.size - 1), blob.size - 1) + 1 if is_part else blob.size
        if is_part and start >= blob.size:
            self._send(416, _xml_error("InvalidRange", "Invalid"), {"Content-Range": f"bytes */{blob.size}"})
            return
        headers = {
            "ETag": blob.etag,
            "Last-Modified": blob.modified,
            "Accept-Ranges": "bytes",
            "x-ms-blob-type": "BlockBlob",
        }
        if is_part:
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{blob.size}"
        with blob.open() as file:
            file.seek(start)
            self._send_file(206 if is_part else 200, file, end - start, headers)

    def _send_file(self, status, file, length, headers):
        fault = self._fault
        if fault is None:
            self._start(status, length, headers, "application/octet-stream")
            with contextlib.suppress(OSError):
                self._copy(file, length)
        else:
            self._send(status, file.read(length), headers, kind="application/octet-stream")

    def _copy(self, file, length):
        try:
            file.fileno()
        except OSError:
            self.wfile.write(file.read(length))
        else:
            self.wfile.flush()
            self.connection.sendfile(file, file.tell(), length)

    def _send(self, status, content, headers=None, kind="text/plain"):
        fault, self._fault = getattr(self, "_fault", None), None
        if fault and fault.corrupt and content:
            content = bytes([content[0] ^ 1]) + content[1:]
        if fault and fault.cut_to is not None:
            content = content[: fault.cut_to]
        drop_at = self.azure.faults.drop_at(fault, len(content))
        with contextlib.suppress(OSError):
            self._start(status, len(content), headers or {}, kind)
            if fault and fault.trickle:
                self._trickle(content, *fault.trickle)
            else:
                self.wfile.write(content[:drop_at])
        if drop_at is not None:
            self._hang_up()

    def _trickle(self, content, size, pause_s):
        for start in range(0, len(content), size):
            self.wfile.write(content[start : start + size])
            self.wfile.flush()
            time.sleep(pause_s)

    def _start(self, status, length, headers, kind):
        self.send_response(status)
        for name, value in {**headers, "Content-Type": kind, "Content-Length": str(length)}.items():
            self.send_header(name, value)
        self.end_headers()

    def _hang_up(self):
        self.close_connection = True

    def _switch(self, switch, value):
        """Let another process set faults: fail, expire, down, uses, clear."""
        if switch == "fail":
            self.azure.fail(value.pop("where"), **value)
        elif switch == "expire":
            self.azure.expire_addresses()
        elif switch == "down":
            self.azure.down = set(value["regions"])
        elif switch == "uses":
            self.azure.uses = value["uses"]
        elif switch == "clear":
            self.azure.faults.clear()
        self._send(200, b"{}")

    def log_message(self, *_):
        pass


def listing(blobs, query, most):
    """Write a page of `List Blobs`, with the byte order mark that Azure puts before it."""
    prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
    names = {}
    for blob in blobs:
        if blob.name.startswith(prefix):
            head, cut, _ = blob.name[len(prefix) :].partition(delimiter) if delimiter else (blob.name, "", "")
            names.setdefault(prefix + head + delimiter if cut else blob.name, None if cut else blob)
    start = int(base64.b64decode(query["marker"].split("!")[1])) if query.get("marker") else 0
    most = min(most, int(query.get("maxresults") or most))
    page = list(names.items())[start : start + most]
    marker = base64.b64encode(str(start + most).encode()).decode() if start + most < len(names) else ""
    inner = "".join(_blob_xml(blob) if blob else _prefix_xml(name) for name, blob in page)
    next_marker = f"<NextMarker>2!{marker}</NextMarker>" if marker else "<NextMarker />"
    head = '\ufeff<?xml version="1.0" encoding="utf-8"?><EnumerationResults ContainerName="c">'
    return f"{head}<Blobs>{inner}</Blobs>{next_marker}</EnumerationResults>".encode()


def _blob_xml(blob):
    md5 = (
        f"<Content-MD5>{base64.b64encode(blob.md5).decode()}</Content-MD5>" if blob.announce_md5 else "<Content-MD5 />"
    )
    return (
        f"<Blob><Name>{escape(blob.name)}</Name><Properties><Last-Modified>{blob.modified}</Last-Modified>"
        f"<Etag>{escape(blob.etag)}</Etag><Content-Length>{blob.size}</Content-Length>"
        f"<Content-Type>application/octet-stream</Content-Type>{md5}<BlobType>BlockBlob</BlobType>"
        f"<ResourceType>file</ResourceType></Properties></Blob>"
    )


def _prefix_xml(name):
    return f"<BlobPrefix><Name>{escape(name)}</Name></BlobPrefix>"


def _xml_error(code, message):
    return f'<?xml version="1.0"?><Error><Code>{code}</Code><Message>{message}</Message></Error>'.encode()
