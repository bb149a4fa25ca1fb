"""The CPU, through ONNX Runtime's own execution provider. Always there."""

import os
import platform
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Literal

import psutil
from msgspec import Meta, Struct

from cupola.provider import (
    Device,
    EmbeddingSession,
    ExecutionProvider,
    Limits,
    ModelFiles,
    ProviderReport,
    Session,
    Settings,
    hookimpl,
)
from cupola_providers.threads import usable_cores


class CpuOptions(Struct, frozen=True, forbid_unknown_fields=True):
    """The table `[providers.cpu]`.

    Attributes:
        threads: Compute threads; 0 means one per physical core that this process may use.
        spinning: Whether threads wait for work actively. Faster (1.4 times for one stream on two cores), even with
            a neighbour that takes part of a core; switch it off where the cores belong to others as well.
        session: How models run: many turns sharing each pass (slots), one at a time (generator), or as each can.
        kv_memory_mb: Most memory for the KV cache of a model's slots, in 10^6 bytes; 0 takes a quarter of what is free
            when the model is loaded. Only what turns use is really taken.
        speculation: Whether slots may guess answers ahead from what was said before, where that is found to pay. No
            answer depends on it. It holds the weights twice, and is done only where they are small beside the memory
            of the KV cache.
    """

    threads: Annotated[int, Meta(ge=0, le=1024)] = 0
    spinning: bool = True
    session: Literal["auto", "slots", "generator"] = "auto"
    kv_memory_mb: Annotated[int, Meta(ge=0)] = 0
    speculation: bool = True


class CpuProvider(ExecutionProvider):
    """Runs models on the processor."""

    name = "CPUExecutionProvider"
    device_types = ("CPU",)
    options_type = CpuOptions

    def environment(self, options: CpuOptions) -> Mapping[str, str]:  # noqa: ARG002 - the same for all
        """Return the switches that must be set before a worker starts. What the user has set already stays.

        Without ONNX Runtime's flash attention a prefill of 512 tokens on the int8 layout is 1.5 times as fast; with
        transparent huge pages one row decodes 7 % faster, and a KV cache is made in a tenth of the time.
        """
        switches = {"ORT_GQA_DISABLE_FLASH_ATTENTION": "1"}
        if sys.platform == "linux":
            switches["GLIBC_TUNABLES"] = "glibc.malloc.hugetlb=1"
        return {key: value for key, value in switches.items() if key not in os.environ}

    def probe(self) -> ProviderReport:
        """Report the processor, or that ONNX Runtime cannot be imported."""
        try:
            import onnxruntime  # noqa: PLC0415 - the service imports this module and must not import the runtime
            import onnxruntime_genai  # noqa: PLC0415
        except (ImportError, OSError) as error:
            return ProviderReport(
                self.name,
                problem=f"ONNX Runtime cannot be imported: {error}",
                remedy=f"{sys.executable} -m pip install --force-reinstall onnxruntime onnxruntime-genai",
            )
        device = Device(self.name, "CPU", processor_name(), memory_bytes=psutil.virtual_memory().total)
        versions = {"onnxruntime": onnxruntime.__version__, "onnxruntime-genai": onnxruntime_genai.__version__}
        return ProviderReport(self.name, (device,), versions)

    def load(
        self,
        model: ModelFiles,
        device: Device,  # noqa: ARG002 - there is one
        options: CpuOptions,
        limits: Limits,
    ) -> Session | EmbeddingSession:
        """Load a model.

        Raises:
            LoadError, ModelFormatError: With what to do about it.
        """
        from cupola_providers.runtime.embedding import is_embedding_model, open_embedding  # noqa: PLC0415
        from cupola_providers.runtime.loading import RuntimeSetup, open_session  # noqa: PLC0415

        threads = options.threads or usable_cores()
        if is_embedding_model(model.path):
            return open_embedding(model, threads=threads, spinning=options.spinning, limits=limits)
        setup = RuntimeSetup(
            threads=threads,
            spinning=options.spinning,
            session=options.session,
            kv_memory_bytes=options.kv_memory_mb * 1_000_000,
            speculation=options.speculation,
        )
        return open_session(model, setup=setup, limits=limits)


def processor_name() -> str:
    """Return what the processor calls itself."""
    if sys.platform == "linux":
        for line in Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


@hookimpl
def execution_providers(settings: Settings) -> Iterable[ExecutionProvider]:  # noqa: ARG001
    """Bring the CPU."""
    return [CpuProvider()]
