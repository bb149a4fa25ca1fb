"""Where a model's graph is opened: an execution provider on one device, in either library."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import onnxruntime as ort
import onnxruntime_genai as og

CPU = "CPUExecutionProvider"
Spinning = bool | Literal["briefly"]
"""Whether threads wait for work actively: for long, not at all, or for about as long as from one pass to the next.

Where two graphs compute in turn, the threads of one that go on waiting keep the cores from the other; on two cores that
costs more than guesses win (`python -m benchmarks.speculation`).
"""
_BRIEFLY_US = "1000"

_RECORD = "session.record_ep_graph_assignment_info"
_FOLDER = "session.model_external_initializers_file_folder_path"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """An execution provider on one device, with its options. By default the processor.

    Attributes:
        provider: ONNX Runtime's name of the provider.
        genai_name: onnxruntime-genai's name of it; empty for the processor, which has none to be named by.
        options: For the provider.
        native_options: The same for plain ONNX Runtime, where that wants others.
        device: Its `OrtEpDevice`, if it comes from a plugin library; None if ONNX Runtime was built with it.
        shares_cache: Whether its attention appends to a KV cache in place; otherwise every pass makes a new one.
        host_cache: Whether the KV cache lies in the machine's own memory.
    """

    provider: str = CPU
    genai_name: str = ""
    options: Mapping[str, str] = field(default_factory=dict)
    native_options: Mapping[str, str] | None = None
    device: Any = None
    shares_cache: bool = True
    host_cache: bool = True

    @property
    def is_known(self) -> bool:
        """Whether ONNX Runtime knows the provider at all; if not, it would take the processor in silence."""
        return self.device is not None or self.provider in ort.get_available_providers()

    def open(self, source: Path | bytes, *, threads: int, spinning: Spinning, folder: Path | None = None) -> Any:
        """Open a graph in plain ONNX Runtime, as `onnxruntime.InferenceSession`, which notes who took which node.

        Args:
            source: The file, or its content.
            threads: Compute threads of an operator on the processor.
            spinning: Whether idle threads spin.
            folder: Where the weights of a graph lie that is in no file.

        Raises:
            Exception: The binding raises classes of its own, which derive from that alone.
        """
        options = ort.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = threads
        options.add_session_config_entry("session.intra_op.allow_spinning", "1" if spinning else "0")
        if spinning == "briefly":
            options.add_session_config_entry("session.intra_op.spin_duration_us", _BRIEFLY_US)
        options.add_session_config_entry(_RECORD, "1")
        if folder is not None:
            options.add_session_config_entry(_FOLDER, str(folder))
        given = dict(self.options if self.native_options is None else self.native_options)
        if self.device is not None:
            options.add_provider_for_devices([self.device], given)
            return ort.InferenceSession(source, options, enable_fallback=0)
        providers = [CPU] if self.provider == CPU else [(self.provider, given), CPU]
        return ort.InferenceSession(source, options, providers=providers, enable_fallback=0)

    def write(self, config: og.Config) -> None:
        """Make onnxruntime-genai's configuration name this provider and device, and no other."""
        config.clear_providers()  # what the file names is the publisher's guess; the placement has decided
        if not self.genai_name:
            return
        config.append_provider(self.genai_name)
        for key, value in self.options.items():
            config.set_provider_option(self.genai_name, key, value)
        if self.device is not None:
            hardware = self.device.device
            config.set_decoder_provider_options_hardware_device_type(self.genai_name, hardware.type.name)
            config.set_decoder_provider_options_hardware_vendor_id(self.genai_name, hardware.vendor_id)
            config.set_decoder_provider_options_hardware_device_id(self.genai_name, hardware.device_id)
        if not self.shares_cache:
            config.overlay('{"search": {"past_present_share_buffer": false}}')


ON_CPU = Target()


def nodes_taken(session: Any) -> dict[str, int]:
    """Return how many nodes of an opened graph each provider took, most first, as far as ONNX Runtime says."""
    taken: Counter[str] = Counter()
    if not hasattr(session, "get_provider_graph_assignment_info"):  # an ONNX Runtime from before 1.24
        return {}
    for part in session.get_provider_graph_assignment_info():
        taken[part.ep_name] += len(part.get_nodes())
    return dict(taken.most_common())
