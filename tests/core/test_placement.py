"""The built-in policy: the catalog's order, what was asked for, free memory, and what was measured here."""

import pytest

from cupola.frontend import Device, ModelInfo
from cupola.measurements import Measurement
from cupola.placement import PlacementRequest, place

SHARED = {"alias": "x", "source": "suite", "publisher": "me", "size_bytes": 1000}
NPU = ModelInfo(id="x-qnn-npu:1", device="NPU", provider="QNNExecutionProvider", **SHARED)
CUDA = ModelInfo(id="x-cuda-gpu:1", device="GPU", provider="CUDAExecutionProvider", **SHARED)
ANY_GPU = ModelInfo(id="x-generic-gpu:1", device="GPU", provider="WebGpuExecutionProvider", **SHARED)
CPU = ModelInfo(id="x-generic-cpu:1", device="CPU", provider="CPUExecutionProvider", **SHARED)
VARIANTS = [NPU, CUDA, ANY_GPU, CPU]


def device(variant, **fields):
    return Device(variant.provider, variant.device, **fields)


def measured(variant, speed, on=None):
    where = on or device(variant)
    return Measurement(model=variant.id, provider=where.provider, device=where.type, decode_tokens_per_s=speed)


def chosen(devices, *rest, variants=VARIANTS):
    found = place(variants, devices, *rest)
    return found and (found.variant.id, found.device.provider)


EVERYWHERE = [device(variant) for variant in reversed(VARIANTS)]


def test_the_first_variant_that_something_here_runs_is_taken():
    assert chosen(EVERYWHERE) == ("x-qnn-npu:1", "QNNExecutionProvider")
    assert chosen([device(CPU), device(CUDA)]) == ("x-cuda-gpu:1", "CUDAExecutionProvider")
    assert chosen([device(CPU)]) == ("x-generic-cpu:1", "CPUExecutionProvider")
    assert chosen([]) is None
    assert chosen([Device("QNNExecutionProvider", "CPU")]) is None


def test_a_place_without_enough_free_memory_comes_after_those_that_have_it():
    small, room = device(NPU, free_bytes=1199), device(CUDA, free_bytes=1200)
    assert chosen([small, room]) == ("x-cuda-gpu:1", "CUDAExecutionProvider")
    assert chosen([small, device(CPU)]) == ("x-generic-cpu:1", "CPUExecutionProvider")
    assert chosen([small]) == ("x-qnn-npu:1", "QNNExecutionProvider")  # an estimate alone refuses nothing
    second = device(CUDA, index=1, free_bytes=5000)
    assert place([CUDA], [device(CUDA, free_bytes=10), second]).device == second


def test_the_fastest_measured_is_taken_where_the_first_was_measured_too():
    known = [measured(CUDA, 40.0), measured(CPU, 60.0), measured(ANY_GPU, 20.0)]
    devices = [device(CPU), device(CUDA), device(ANY_GPU)]
    assert place(VARIANTS, devices, measured=known).variant == CPU
    assert place(VARIANTS, devices, measured=known[:1]).variant == CUDA
    assert place(VARIANTS, devices[1:], measured=known).variant == CUDA


def test_what_was_not_measured_is_not_passed_over_for_what_was():
    assert place(VARIANTS, EVERYWHERE, measured=[measured(CPU, 60.0)]).variant == NPU


def test_a_measurement_counts_for_the_place_it_was_made_in_alone():
    elsewhere = measured(CPU, 900.0, on=Device("OpenVINOExecutionProvider", "CPU"))
    assert place(VARIANTS, EVERYWHERE, measured=[measured(NPU, 10.0), elsewhere]).variant == NPU


@pytest.mark.parametrize(
    ("wish", "expected"),
    [
        (PlacementRequest(device="CPU"), "x-generic-cpu:1"),
        (PlacementRequest(device="GPU"), "x-cuda-gpu:1"),
        (PlacementRequest("WebGpuExecutionProvider"), "x-generic-gpu:1"),
        (PlacementRequest("QNNExecutionProvider", "CPU"), None),
    ],
)
def test_what_was_asked_for_is_done_or_nothing(wish, expected):
    found = place(VARIANTS, EVERYWHERE, wish)
    assert (found and found.variant.id) == expected


def test_a_provider_asked_for_by_name_gets_plain_variants_where_it_has_none_of_its_own():
    npu, cpu = Device("OpenVINOExecutionProvider", "NPU"), Device("OpenVINOExecutionProvider", "CPU")
    asked = PlacementRequest("OpenVINOExecutionProvider")
    assert chosen([npu, cpu]) is None  # not of itself
    assert place([ANY_GPU, CPU], [npu, cpu], asked) == place([CPU], [cpu], asked)
    assert place([CPU], [npu], asked).device == npu
    assert place([NPU, CUDA], [npu, cpu], asked) is None  # they are compiled for others


def test_measurements_decide_between_devices_of_one_provider_too():
    own = ModelInfo(id="x-openvino-gpu:1", device="GPU", provider="OpenVINOExecutionProvider", **SHARED)
    also = ModelInfo(id="x-openvino-cpu:1", device="CPU", provider="OpenVINOExecutionProvider", **SHARED)
    known = [measured(own, 5.0), measured(also, 6.0)]
    assert place([own, also], [device(own), device(also)], measured=known).variant == also


def test_a_generic_variant_goes_to_another_provider_only_when_that_is_asked_for_by_name():
    cuda = device(CUDA)
    assert place([ANY_GPU], [cuda]) is None
    assert place([ANY_GPU], [cuda], PlacementRequest(cuda.provider)).device == cuda


def test_a_wish_moves_no_gpu_variant_to_another_kind_of_device_and_no_tuned_one_anywhere():
    assert place([ANY_GPU], [device(CPU)], PlacementRequest("CPUExecutionProvider")) is None
    assert place([CUDA], [device(ANY_GPU)], PlacementRequest("WebGpuExecutionProvider")) is None
