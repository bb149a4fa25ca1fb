"""The CPU execution provider of ONNX Runtime, which is available on every machine."""

import os
import sys
from collections.abc import Iterable, Mapping
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
from cupola_providers.processor import processor_name, usable_cores


class CpuOptions(Struct, frozen=True, forbid_unknown_fields=True):
    """The table `[providers.cpu]`.

    Attributes:
        threads: Compute threads; 0 uses one per physical core that this process may run on.
        spinning: Whether idle threads spin. For one stream on two cores this is 1.4 times as fast, even with
            another process on part of a core. Disable it on machines that other programs share.
        session: "slots" batches many turns into each forward pass, "generator" runs one turn at a time, "auto"
            uses slots for every model that supports it.
        kv_memory_mb: Maximum size of a model's KV cache, in 10^6 bytes; 0 uses a quarter of the memory that is free
            when the model is loaded. Pages are allocated when tokens are written to them.
        speculation: Whether slots use speculative decoding with prompt lookup where it is measured to be faster. It
            never changes an answer. It keeps a second copy of the weights in memory, and is used only for models
            whose weights are at most a quarter of the KV cache's memory.
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
        """Return the environment variables of a worker. Variables that the user has already set are kept.

        Without ONNX Runtime's flash attention a prefill of 512 tokens on the int8 layout is 1.5 times as fast; with
        transparent huge pages one row decodes 7 % faster, and a KV cache is made in a tenth of the time.
        """
        switches = {"ORT_GQA_DISABLE_FLASH_ATTENTION": "1"}
        if sys.platform == "linux":
            switches["GLIBC_TUNABLES"] = "glibc.malloc.hugetlb=1"
        return {key: value for key, value in switches.items() if key not in os.environ}

    def probe(self) -> ProviderReport:
        """Report the processor, or the error if ONNX Runtime cannot be imported."""
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
            LoadError: The runtime cannot load the model; the detail names a remedy.
            ModelFormatError: A file of the model is missing, damaged or unsupported.
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


@hookimpl
def execution_providers(settings: Settings) -> Iterable[ExecutionProvider]:  # noqa: ARG001
    """Register the the CPU execution provider."""
    return [CpuProvider()]
