"""The execution provider and device of a model, for ONNX Runtime and for onnxruntime-genai."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import onnxruntime as ort
import onnxruntime_genai as og

CPU = "CPUExecutionProvider"
Spinning = bool | Literal["briefly"]
"""Whether idle threads spin: for long, not at all, or "briefly", about the time between two passes.

When two graphs compute alternately, the spinning threads of one delay the other. On two cores this costs more than
speculative decoding gains (`python -m benchmarks.speculation`).
"""
_BRIEFLY_US = "1000"

_RECORD = "session.record_ep_graph_assignment_info"
_FOLDER = "session.model_external_initializers_file_folder_path"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """An execution provider, its device and its options. The default is the CPU.

    Attributes:
        provider: Name of the provider in ONNX Runtime.
        genai_name: Name of the provider in onnxruntime-genai; empty for the CPU.
        options: Provider options for onnxruntime-genai.
        native_options: Provider options for plain ONNX Runtime, if they differ.
        device: The `OrtEpDevice` of a plugin library; None for a provider that is built into ONNX Runtime.
        shares_cache: Whether attention appends to the KV cache in place; otherwise every pass allocates a new one.
        host_cache: Whether the KV cache is in main memory.
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
        """Whether ONNX Runtime knows the provider. It would silently use the CPU for an unknown one."""
        return self.device is not None or self.provider in ort.get_available_providers()

    def open(self, source: Path | bytes, *, threads: int, spinning: Spinning, folder: Path | None = None) -> Any:
        """Open a graph as an `onnxruntime.InferenceSession` that records the provider of every node.

        Args:
            source: Path of an ONNX file, or its content.
            threads: Compute threads of one operator on the CPU.
            spinning: Whether idle threads spin.
            folder: Folder of the external weights, if `source` is content.

        Raises:
            Exception: The binding raises its own direct subclasses of Exception.
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

    def apply_to(self, config: og.Config) -> None:
        """Set this provider and device in a configuration of onnxruntime-genai, and remove all others."""
        config.clear_providers()  # the file's providers are the publisher's default; the placement overrides it
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


def nodes_by_provider(session: Any) -> dict[str, int]:
    """Return the number of nodes by provider, largest first; empty if ONNX Runtime does not report it."""
    taken: Counter[str] = Counter()
    if not hasattr(session, "get_provider_graph_assignment_info"):  # an ONNX Runtime from before 1.24
        return {}
    for part in session.get_provider_graph_assignment_info():
        taken[part.ep_name] += len(part.get_nodes())
    return dict(taken.most_common())
