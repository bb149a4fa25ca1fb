"""Lists the files of a model: the registry returns a blob container, and the container lists its blobs.

Container listings are those of Azure's `List Blobs` (https://learn.microsoft.com/rest/api/storageservices/list-blobs).
"""

import base64
import binascii
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote, unquote, urlsplit, urlunsplit

import msgspec
from msgspec import Struct

from cupola.catalog import RemoteFile
from cupola_plugins.azure.client import Client, Request
from cupola_plugins.azure.protocols import USER_AGENT

_NOT_FETCHED = "inference_model.json"  # every cache store writes its own
_MAX_PAGES = 1000
_HEADERS = {"User-Agent": USER_AGENT}


class _RegistryResponse(Struct, rename="camel"):
    blob_sas_uri: str


@dataclass(frozen=True, slots=True)
class _BlobPage:
    files: Sequence[RemoteFile]
    marker: str


async def locate(client: Client, registries: Sequence[str], asset_id: str) -> str:
    """Return the URL of a model's container, with a signature that is valid for some hours.

    Args:
        client: The client that sends the request.
        registries: The registry URLs of all regions to try.
        asset_id: "azureml://registries/azureml/models/phi-4/versions/7".

    Raises:
        UnreachableError, RefusedError: As `Client.send`.
    """
    query = f"?assetId={quote(asset_id, safe='')}"
    request = Request("GET", [address + query for address in registries], _HEADERS)
    return await client.send(request, lambda body, _: _container_address(body))


async def list_container(client: Client, container: str) -> Sequence[RemoteFile]:
    """List the files of a container, each with a signed URL.

    Raises:
        UnreachableError, RefusedError: As `Client.send`.
        ValueError: The listing repeats a page, or a blob has no valid name or size.
    """
    files: list[RemoteFile] = []
    markers = {""}
    marker = ""
    for _ in range(_MAX_PAGES):
        address = f"{container}{'&' if '?' in container else '?'}restype=container&comp=list"
        address += f"&marker={quote(marker, safe='')}" if marker else ""
        page = await client.send(Request("GET", [address], _HEADERS), lambda body, _: _blob_page(body, container))
        files += page.files
        if not (marker := page.marker):
            return files
        if marker in markers:
            break
        markers.add(marker)
    raise ValueError("the listing of the container goes in circles: a page repeats")


def _container_address(body: bytes) -> str:
    address = msgspec.json.decode(body, type=_RegistryResponse).blob_sas_uri
    if urlsplit(address).scheme not in ("http", "https"):
        raise ValueError("the registry returned no container URL")
    return address


def _blob_page(body: bytes, container: str) -> _BlobPage:
    """Decode one page of `List Blobs`.

    Raises:
        ValueError: The page is damaged, truncated, or of another kind.
    """
    if b"<!DOCTYPE" in body:
        raise ValueError("the listing has a document type declaration, which is not allowed")
    try:
        root = ET.fromstring(body)  # noqa: S314 - without a document type there are no entities to expand
    except ET.ParseError as error:
        raise ValueError(f"the listing is not valid XML: {error}") from error
    if root.tag != "EnumerationResults":
        raise ValueError(f"the listing is a {root.tag!r}")
    files = [_file(blob, container) for blob in root.iterfind("Blobs/Blob") if _is_wanted(blob)]
    return _BlobPage(files, (root.findtext("NextMarker") or "").strip())


def _is_wanted(blob: ET.Element) -> bool:
    name = _name(blob)
    is_folder = name.endswith("/") or blob.findtext("Properties/ResourceType") == "directory"
    return not is_folder and not name.endswith(_NOT_FETCHED)


def _file(blob: ET.Element, container: str) -> RemoteFile:
    name, size = _name(blob), blob.findtext("Properties/Content-Length") or ""
    if not name or not size.isdecimal():
        raise ValueError(f"the blob {name!r} has no size" if name else "a blob has no name")
    parts = urlsplit(container)
    address = urlunsplit(parts._replace(path=f"{parts.path.rstrip('/')}/{quote(name, safe='/')}"))
    return RemoteFile(name, int(size), address, md5=_hex(blob.findtext("Properties/Content-MD5") or ""))


def _name(blob: ET.Element) -> str:
    element = blob.find("Name")
    if element is None or not element.text:
        return ""
    # Names with characters that XML does not allow are percent-encoded and marked.
    return unquote(element.text) if element.get("Encoded") == "true" else element.text


def _hex(content_md5: str) -> str:
    """Convert the base64 of `Content-MD5` to hex. Return "" if there is none, as for large blobs."""
    try:
        digest = base64.b64decode(content_md5.strip(), validate=True)
    except binascii.Error:
        return ""
    return digest.hex() if len(digest) == 16 else ""
