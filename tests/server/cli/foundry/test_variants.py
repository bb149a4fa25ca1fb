"""The tables of `foundry`, byte for byte as the original printed them, and read by what reads those."""

import re

from cupola.frontend import ModelInfo
from cupola_server.cli.foundry.variants import cached_table, format_size, model_table

# What a PowerShell module takes rows apart with.
ROW = re.compile(r"^(\S+)\s+(CPU|GPU|NPU)\s+([\w,\s-]+?)\s+([\d.]+\s*[KMGT]?B)\s+(\S+)\s+(.+)$")
CONTINUED = re.compile(r"^\s+(CPU|GPU|NPU)\s+([\w,\s-]+?)\s+([\d.]+\s*[KMGT]?B)\s+(\S+)\s+(.+)$")


def model(model_id, alias, device, size_mib, *, tools=False):
    return ModelInfo(
        id=model_id,
        alias=alias,
        source="azure",
        publisher="Microsoft",
        device=device,
        size_bytes=size_mib * 1024 * 1024,
        license="MIT",
        supports_tool_calling=tools,
    )


PHI = [
    model("Phi-4-cuda-gpu:1", "phi-4", "GPU", 8570),
    model("Phi-4-generic-gpu:1", "phi-4", "GPU", 8570),
    model("Phi-4-generic-cpu:1", "phi-4", "CPU", 10403),
    model("Phi-4-mini-instruct-generic-gpu:5", "phi-4-mini", "GPU", 3809, tools=True),
    model("Phi-4-mini-instruct-generic-cpu:5", "phi-4-mini", "CPU", 4915, tools=True),
]


def test_the_list_of_models_is_that_of_the_original():
    assert model_table(PHI) == (
        "Alias                          Device     Task           File Size    License      Model ID\n"
        "-----------------------------------------------------------------------------------------------\n"
        "phi-4                          GPU        chat           8.37 GB      MIT          Phi-4-cuda-gpu:1\n"
        "                               GPU        chat           8.37 GB      MIT          Phi-4-generic-gpu:1\n"
        "                               CPU        chat           10.16 GB     MIT          Phi-4-generic-cpu:1\n"
        "----------------------------------------------------------------------------------------------------------\n"
        "phi-4-mini                     GPU        chat, tools    3.72 GB      MIT          "
        "Phi-4-mini-instruct-generic-gpu:5\n"
        "                               CPU        chat, tools    4.80 GB      MIT          "
        "Phi-4-mini-instruct-generic-cpu:5"
    )


def test_scripts_read_the_rows():
    rows = model_table(PHI).splitlines()
    assert ROW.match(rows[2]).groups() == ("phi-4", "GPU", "chat", "8.37 GB", "MIT", "Phi-4-cuda-gpu:1")
    assert CONTINUED.match(rows[4]).groups() == ("CPU", "chat", "10.16 GB", "MIT", "Phi-4-generic-cpu:1")
    assert ROW.match(rows[6]).group(3) == "chat, tools"


def test_long_names_push_columns_and_never_touch_them():
    long = model("x" * 60 + "-generic-cpu:1", "y" * 40, "CPU", 1)
    row = model_table([long]).splitlines()[-1]
    assert row.startswith(f"{'y' * 40} CPU")
    assert ROW.match(row)


def test_sizes_are_gibibytes_of_whole_mebibytes():
    assert format_size(model("a:1", "a", "CPU", 1)) == "0.00 GB"
    assert format_size(model("a:1", "a", "CPU", 1536)) == "1.50 GB"


def test_the_list_of_cached_models_is_that_of_the_original():
    assert cached_table([PHI[4]]) == (
        "Models cached on device:\n"
        "   Alias                                             Model ID\n"
        "💾 phi-4-mini                                        Phi-4-mini-instruct-generic-cpu:5"
    )
    assert cached_table([]) == "No models cached on device"
