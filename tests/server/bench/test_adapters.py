"""Adapters, their metadata and their virtual environments."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from cupola_server.bench.adapters import (
    ALL,
    Adapter,
    environment_path,
    find_adapters,
    prepare_interpreter,
    read_adapter,
    select_adapters,
)
from cupola_server.bench.errors import TargetError, UnknownPeerError


def test_an_adapter_is_described_by_its_inline_metadata(write_adapter):
    found = write_adapter("")
    assert (found.name, found.title, found.requirements) == ("some-body", "Somebody", ("nothing==1",))
    assert (found.variants, found.protocol) == (("plain", "fancy"), "lines")


def test_scripts_without_adapter_metadata_are_not_adapters(tmp_path):
    plain, script = tmp_path / "a.py", tmp_path / "b.py"
    plain.write_text("print()\n")
    script.write_text('# /// script\n# dependencies = ["x"]\n# ///\n')
    assert read_adapter(plain) is None
    assert read_adapter(script) is None


def test_the_checkout_contains_adapters_for_all_compared_peers():
    found = {adapter.name: adapter for adapter in find_adapters()}
    assert {"foundry-local-1", "foundry-local-2", "llama-cpp", "raw-genai"} <= set(found)
    assert found["foundry-local-2"].requirements == ("foundry-local-sdk==2.2.1",)
    assert found["foundry-local-1"].variants == ("default", "tuned")


def test_a_name_selects_an_adapter_one_variant_or_all():
    assert [variant for _, variant in select_adapters("foundry-local-2")] == ["default", "tuned"]
    assert [(adapter.name, variant) for adapter, variant in select_adapters("foundry-local-2-tuned")] == [
        ("foundry-local-2", "tuned")
    ]
    assert len(select_adapters(ALL)) >= 6


def test_the_path_of_an_adapter_selects_it(write_adapter):
    path = write_adapter("").path
    assert [variant for _, variant in select_adapters(str(path))] == ["plain", "fancy"]


def test_the_error_for_an_unknown_peer_lists_the_available_ones():
    with pytest.raises(UnknownPeerError, match="Unknown peer 'olama'. Available: foundry-local-1"):
        select_adapters("olama")
    assert "Run the command in a checkout" in str(UnknownPeerError(name="x", known=()))


@pytest.mark.anyio
async def test_the_error_for_packages_that_cannot_be_installed_has_the_reason(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    adapter = Adapter(tmp_path / "x.py", "x", "X", (str(tmp_path / "no-such-package"),))
    with pytest.raises(TargetError, match="x cannot be measured: its packages cannot be installed: .*no-such-package"):
        await prepare_interpreter(adapter)
    assert not (environment_path(adapter) / "whole").exists()


@pytest.mark.anyio
async def test_an_environment_is_kept_until_its_packages_change(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    adapter = Adapter(tmp_path / "x.py", "x", "X", ())
    python = await prepare_interpreter(adapter)
    assert python.exists()
    (environment_path(adapter) / "kept").touch()
    assert await prepare_interpreter(adapter) == python
    assert (environment_path(adapter) / "kept").exists()
    assert environment_path(adapter) != environment_path(Adapter(adapter.path, "x", "X", ("y",)))


def test_adapters_import_nothing_of_cupola():
    folder = Path(__file__).parents[3] / "benchmarks" / "peers"
    for path in folder.glob("*.py"):
        assert "import cupola" not in path.read_text("utf-8")
        assert "from cupola" not in path.read_text("utf-8")


def test_an_adapter_reads_its_argument_as_a_job(tmp_path):
    given = {"model": str(tmp_path), "variant": "x", "threads": 1, "streams": 1, "context": 1, "work": str(tmp_path)}
    program = "import json, sys; from job import Job; print(json.dumps(str(Job.from_arguments())))"
    folder = Path(__file__).parents[3] / "benchmarks" / "peers"
    run = subprocess.run(
        [sys.executable, "-c", program, json.dumps(given)], cwd=folder, capture_output=True, text=True, check=True
    )
    assert "variant='x'" in run.stdout
