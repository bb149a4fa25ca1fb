"""The measured speed of models on this machine, in a small JSON file that placement reads.

`cupola bench` writes it. It holds the latest measurement of each model, provider and device type.
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
    """The speed of one model on one provider and device type.

    Attributes:
        model: The model's id with version.
        provider: The execution provider's name, such as "OpenVINOExecutionProvider".
        device: Device type.
        decode_tokens_per_s: Generated tokens per second of a single stream. Placement compares these.
        prefill_tokens_per_s: Prompt tokens per second; 0 if not measured.
        measured_at_unix: Seconds since 1970.
        versions: Library versions by name.
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
        """The model, provider and device type that identify the measurement."""
        return (self.model.lower(), self.provider, self.device)


class Measurements:
    """The measurements of this machine. Methods block, but the file is small enough to read on an event loop.

    Args:
        path: The file, usually `Settings.measurements_path`. It need not exist.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> Sequence[Measurement]:
        """Return all measurements; none, with a logged warning, if the file is damaged."""
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=tuple[Measurement, ...])
        except FileNotFoundError:
            return ()
        except (OSError, msgspec.MsgspecError) as error:
            logger.warning("The measurements in %s cannot be read and are ignored: %s", self._path, error)
            return ()

    def record(self, measurement: Measurement) -> None:
        """Store a measurement, replacing an earlier one with the same key. The file is replaced atomically.

        Raises:
            OSError: The file cannot be written.
        """
        others = [each for each in self.read() if each.key != measurement.key]
        content = msgspec.json.format(msgspec.json.encode([*others, measurement]), indent=1)
        replace_file(self._path, content)
