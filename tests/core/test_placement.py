"""The built-in placement policy."""

from cupola import Device, ModelInfo
from cupola.placement import place

CUDA, WEBGPU, CPU = (
    Device("CUDAExecutionProvider", "GPU"),
    Device("WebGpuExecutionProvider", "GPU"),
    Device("CPUExecutionProvider", "CPU"),
)


def variant(name, device="GPU", provider="WebGpuExecutionProvider"):
    return ModelInfo(id=f"{name}:1", alias="m", source="s", publisher="p", device=device, provider=provider)


GENERIC, TUNED, ON_CPU = (
    variant("m-generic-gpu"),
    variant("m-cuda-gpu", provider="CUDAExecutionProvider"),
    variant("m-generic-cpu", "CPU", "CPUExecutionProvider"),
)


def test_the_first_variant_with_a_device_for_its_provider_is_placed():
    placed = place([TUNED, GENERIC, ON_CPU], [CPU, WEBGPU])
    assert (placed.variant, placed.device) == (GENERIC, WEBGPU)
    assert place([TUNED], [CPU, WEBGPU]) is None


def test_a_generic_variant_goes_to_another_provider_only_when_that_is_asked_for_by_name():
    assert place([GENERIC], [CUDA]) is None
    assert place([GENERIC], [CUDA], "CUDAExecutionProvider").device == CUDA


def test_a_wish_moves_no_variant_to_another_kind_of_device_and_no_tuned_one_anywhere():
    assert place([GENERIC], [CPU], "CPUExecutionProvider") is None
    assert place([TUNED], [WEBGPU], "WebGpuExecutionProvider") is None
