"""How fast models run on this machine, as it was measured: a small JSON file that placement goes by.

`cupola bench` records, the engine reads. One measurement is kept for each model, provider and kind of device: the last.
"""

import logging
from collections.abc import Sequence
from pathlib import Path

import msgspec
from msgspec import Struct

from cupola.contracts import DeviceType
from cupola.files import replace_file

logger = logging.getLogger(__name__)


class Measurement(Struct, frozen=True, kw_only=True):
    """How fast one model ran in one place.

    Attributes:
        model: Its id, version included.
        provider: "OpenVINOExecutionProvider".
        decode_tokens_per_s: Tokens per second of one answer alone. What placement compares.
        prefill_tokens_per_s: Prompt tokens per second; 0 if it was not measured.
        measured_at_unix: When, in seconds since 1970.
        versions: Of the libraries that ran it, by name.
    """

    model: str
    provider: str
    device: DeviceType
    decode_tokens_per_s: float
    prefill_tokens_per_s: float = 0.0
    measured_at_unix: float = 0.0
    versions: dict[str, str] = {}

    @property
    def key(self) -> tuple[str, str, str]:
        """What it is the measurement of."""
        return (self.model.lower(), self.provider, self.device)


class Measurements:
    """The measurements of this machine. Blocking, but small: it may be read on an event loop.

    Args:
        path: The file, `Settings.measurements_path`. It need not exist.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> Sequence[Measurement]:
        """Return what was measured; nothing, with a warning, if the file is damaged."""
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=tuple[Measurement, ...])
        except FileNotFoundError:
            return ()
        except (OSError, msgspec.MsgspecError) as error:
            logger.warning("The measurements in %s cannot be read, so none is used: %s", self._path, error)
            return ()

    def record(self, measurement: Measurement) -> None:
        """Keep a measurement in the place of an earlier one of the same. The file is replaced at once, or not at all.

        Raises:
            OSError: It cannot be written.
        """
        others = [each for each in self.read() if each.key != measurement.key]
        content = msgspec.json.format(msgspec.json.encode([*others, measurement]), indent=1)
        replace_file(self._path, content)
