"""The store of responses: typed records over a folder of files, and never a blocked event loop."""

import logging

import msgspec
from anyio import CapacityLimiter, to_thread

from cupola.frontend import Settings
from cupola_server.openai.responses.folder import RecordFolder
from cupola_server.openai.responses.response import StoredResponse

logger = logging.getLogger(__name__)

_DAY_S = 86_400.0


class ResponseStore:
    """Keeps responses for clients that come back to them.

    A file that cannot be understood, because it is damaged or another version wrote it, counts as none.
    """

    def __init__(self, folder: RecordFolder) -> None:
        self._folder = folder
        self._decoder = msgspec.json.Decoder(StoredResponse)
        self._one_at_a_time: CapacityLimiter | None = None

    @staticmethod
    def from_settings(settings: Settings) -> "ResponseStore":
        """Make the store that the settings describe. Nothing is written until there is a response to keep."""
        kept = settings.responses
        return ResponseStore(RecordFolder(settings.responses_dir, limit=kept.max_stored, life_s=kept.ttl_days * _DAY_S))

    async def prepare(self) -> None:
        """Make sure that responses can be stored.

        Raises:
            ResponseStoreError: They cannot.
        """
        await to_thread.run_sync(self._folder.prepare, limiter=self._limiter())

    async def put(self, record: StoredResponse) -> None:
        """Store a response, in place of its earlier state.

        Raises:
            ResponseStoreError: It could not be written.
        """
        data = msgspec.json.encode(record)
        await to_thread.run_sync(self._folder.put, record.response.id, data, limiter=self._limiter())

    async def get(self, id: str) -> StoredResponse | None:  # noqa: A002 - the API's word
        """Find a response.

        Raises:
            ResponseStoreError: It is there but cannot be read.
        """
        data = await to_thread.run_sync(self._folder.get, id, limiter=self._limiter())
        if data is None:
            return None
        try:
            return self._decoder.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            logger.warning("The stored response %s is damaged and counts as missing: %s", id, error)
            return None

    async def delete(self, id: str) -> bool:  # noqa: A002 - the API's word
        """Forget a response; False if there was none.

        Raises:
            ResponseStoreError: It could not be removed.
        """
        return await to_thread.run_sync(self._folder.delete, id, limiter=self._limiter())

    def _limiter(self) -> CapacityLimiter:
        """Return what keeps the folder's calls apart. It belongs to the event loop, so it is made inside it."""
        if self._one_at_a_time is None:
            self._one_at_a_time = CapacityLimiter(1)
        return self._one_at_a_time
