"""The starter model served as if from Azure: listed, downloaded and chatted with, by a real service."""

import json
import os
import subprocess
import sys

import pytest

from azure_stand_in import AzureStandIn, Variant

NAME, ALIAS = "smollm2-azure-instruct-generic-cpu", "smollm2-azure"


@pytest.fixture
def azure(starter_model_path):
    with AzureStandIn(Variant.of_folder(starter_model_path, NAME, alias=ALIAS)) as azure:
        yield azure


@pytest.fixture
def cupola(azure, tmp_path):
    environment = {**os.environ, **azure.variables, "CUPOLA_CACHE_DIR": str(tmp_path / "models")}

    def run(*arguments):
        command = [sys.executable, "-m", "cupola_server.cli", *arguments]
        return subprocess.run(command, env=environment, check=False, capture_output=True, text=True, timeout=100)

    return run


def test_a_model_of_azure_is_listed_downloaded_in_spite_of_faults_and_chatted_with(
    azure, cupola, start_service, tmp_path
):
    azure.fail("catalog", status=503)
    listed = cupola("model", "list")
    assert f"{NAME}:1" in listed.stdout, listed.stderr
    azure.fail("registry", status=429, retry_after="1")
    azure.fail("container", cut_to=500)
    downloaded = cupola("model", "download", ALIAS)
    assert downloaded.returncode == 0, downloaded.stderr
    assert (tmp_path / "models" / "Microsoft" / f"{NAME}-1" / "v1" / "genai_config.json").is_file()
    assert "sig=" not in downloaded.stderr + downloaded.stdout
    asked = len(azure.requests)
    service = start_service(CUPOLA_CACHE_DIR=str(tmp_path / "models"), **azure.variables)
    question = [{"role": "user", "content": "What is 2+2?"}]
    reply = service.openai.chat.completions.create(model=ALIAS, messages=question, temperature=0, max_tokens=40)
    assert "4" in reply.choices[0].message.content
    assert len(azure.requests) == asked  # a cached model and a recent listing need no network


def test_nothing_is_asked_of_azure_unless_it_is_enabled(azure, cupola):
    listed = cupola("--set", "azure.enabled=false", "model", "list")
    assert listed.returncode == 0
    assert ALIAS not in listed.stdout
    assert azure.requests == []


def test_a_list_says_how_old_it_is_when_the_network_does_not_answer(azure, cupola, tmp_path):
    snapshot = tmp_path / "models" / "foundry.modelinfo.json"
    assert cupola("model", "list").stderr == ""
    content = json.loads(snapshot.read_text())
    content["savedAtUnix"] -= 3 * 24 * 3600
    snapshot.write_text(json.dumps(content))
    azure.fail("catalog", status=404, times=None)
    listed = cupola("model", "list")
    assert f"{NAME}:1" in listed.stdout
    assert listed.stderr == "The listing of azure is 3 days old.\n"
    snapshot.unlink()
    listed = cupola("model", "list")
    assert "404" in listed.stderr
    assert "smollm2-135m" in listed.stdout
