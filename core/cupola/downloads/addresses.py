"""How addresses and the faults of connections are told: with the cause, and without what is secret."""

import logging
import re
from urllib.parse import urlsplit


def without_query(url: str) -> str:
    """Drop what may be secret: the query holds signatures, the user part passwords."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "an address that is none"
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def cause_text(error: Exception) -> str:
    """Return "read timeout: ...", from the class name and its words, without the query of any address in them."""
    name = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", type(error).__name__).lower()
    words = {"timeout error": "timeout", "address error": "address"}.get(name, name)
    said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    said = re.sub(r"(https?://[^\s'\"?]+)\?[^\s'\"]*", r"\1", said)
    return f"{words}: {said}" if said else words


def keep_addresses_out_of_logs() -> None:
    """Silence the request lines of httpx and httpcore, which hold whole addresses with their signatures."""
    for name in ("httpx", "httpcore"):
        logger = logging.getLogger(name)
        if logger.level < logging.WARNING:
            logger.setLevel(logging.WARNING)
