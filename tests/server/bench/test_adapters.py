"""Adapters and their environments; peers, also those that fail."""

import json
import sys
from pathlib import Path

import pytest

from cupola.frontend import Message
from cupola_server.bench.adapters import (
    ALL,
    Adapter,
    environment_path,
    find_adapters,
    prepare_interpreter,
    read_adapter,
    select_adapters,
)
from cupola_server.bench.errors import PeerError, UnknownPeerError
from cupola_server.bench.peers import CommandTarget, Job, PeerTarget, RemoteTarget
from cupola_server.bench.prompts import Prompt

PROMPT = Prompt((Message("user", "Hello"),), (7, 8, 9))
HEAD = """# /// script
# dependencies = ["nothing==1"]
# [tool.cupola-peer]
# title = "Somebody"
# variants = ["plain", "fancy"]
# own-interpreter = true
# speaks = "lines"
# ///
"""
LINES = """import json, sys
job = json.loads(sys.argv[1])
print("a library says hello")
print(json.dumps({"load_s": 0.5, "versions": {"thing": "1"}, "build": job["variant"]}), flush=True)
for line in sys.stdin:
    print(json.dumps({"times": [0.1, 0.2][: json.loads(line)["new_tokens"]]}), flush=True)
"""
SERVER = """import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.answer(b'{"data": [{"id": "theirs"}]}')
    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.answer(b'data: {"choices": [{"delta": {"content": "a"}}]}\\n\\n'
                    b'data: {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 1}}\\n\\n'
                    b'data: [DONE]\\n\\n')
    def answer(self, body):
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_): pass
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


@pytest.fixture
def adapter(tmp_path):
    def make(program, head=HEAD):
        path = tmp_path / "some_body.py"
        path.write_text(head + program)
        return read_adapter(path)

    return make


@pytest.fixture
def job(tmp_path):
    return Job("tiny:1", tmp_path, threads=1, streams=4, context=128)


def test_an_adapter_is_described_by_its_inline_metadata(adapter):
    found = adapter("")
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


def test_the_path_of_an_adapter_selects_it(adapter):
    path = adapter("").path
    assert [variant for _, variant in select_adapters(str(path))] == ["plain", "fancy"]


def test_the_error_for_an_unknown_peer_lists_the_available_ones():
    with pytest.raises(UnknownPeerError, match="Unknown peer 'olama'. Available: foundry-local-1"):
        select_adapters("olama")
    assert "Run the command in a checkout" in str(UnknownPeerError(name="x", known=()))


@pytest.mark.anyio
async def test_a_peer_with_the_lines_protocol_gets_requests_as_lines(adapter, job):
    target = PeerTarget(adapter(LINES), "fancy", job)
    assert (target.name, target.title, target.max_streams) == ("some-body-fancy", "Somebody, fancy", 1)
    async with target.open() as startup:
        assert (startup.versions, startup.settings) == ({"thing": "1"}, {"variant": "fancy", "build": "fancy"})
        answer = await target.generate(PROMPT, 2)
    assert (answer.prompt_tokens, answer.completion_tokens) == (3, 2)
    assert answer.ttft_s == pytest.approx(0.1)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("program", "sentence"),
    [
        ("import sys; sys.exit('no such device')", "its process ended. Its error output: no such device"),
        ("pass", "its process ended. It wrote no error output"),
        ("print('{\"load_s\": nonsense', flush=True)", "its adapter printed invalid JSON"),
    ],
)
async def test_the_error_for_a_peer_that_does_not_start_has_its_error_output(adapter, job, program, sentence):
    with pytest.raises(PeerError, match=sentence):
        async with PeerTarget(adapter(program), "plain", job).open():
            pytest.fail("the target must not open")


@pytest.mark.anyio
async def test_the_error_for_a_peer_that_dies_during_a_response_has_its_error_output(adapter, job):
    program = LINES.partition("for line")[0] + "sys.stdin.readline(); sys.exit('crash')\n"
    target = PeerTarget(adapter(program), "plain", job)
    async with target.open():
        with pytest.raises(PeerError, match="crash"):
            await target.generate(PROMPT, 1)


@pytest.mark.anyio
async def test_the_error_for_packages_that_cannot_be_installed_has_the_reason(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    adapter = Adapter(tmp_path / "x.py", "x", "X", (str(tmp_path / "no-such-package"),))
    with pytest.raises(PeerError, match="x cannot be measured: its packages cannot be installed: .*no-such-package"):
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


@pytest.mark.anyio
async def test_a_command_is_ready_once_its_server_lists_a_model(tmp_path):
    program = tmp_path / "server.py"
    program.write_text(SERVER)
    target = CommandTarget(f"{sys.executable} {program} {{port}} {{threads}}", "tiny:1", threads=2)
    async with target.open() as startup:
        assert startup.process_trees
        assert (await target.generate(PROMPT, 1)).completion_tokens == 1
        remote = RemoteTarget(target._client.url)
        async with remote.open():
            assert remote.model == "theirs"
            assert (await remote.generate(PROMPT, 1)).prompt_tokens == 3


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        (f"{sys.executable} -c \"import sys; sys.exit('bad flag')\"", "bad flag"),
        ("/no/such/server", "cannot be started"),
        (f"{sys.executable} {{gpu}}", "Available: {port}, {threads}"),
    ],
)
async def test_the_error_for_a_command_that_starts_no_server_has_the_reason(command, sentence):
    with pytest.raises(PeerError, match=sentence):
        async with CommandTarget(command, "tiny:1", threads=2).open():
            pytest.fail("the target must not open")


def test_adapters_import_nothing_of_cupola():
    folder = Path(__file__).parents[3] / "benchmarks" / "peers"
    for path in folder.glob("*.py"):
        assert "import cupola" not in path.read_text("utf-8")
        assert "from cupola" not in path.read_text("utf-8")


def test_an_adapter_reads_its_argument_as_a_job(job, tmp_path):
    given = {"model": str(tmp_path), "variant": "x", "threads": 1, "streams": 1, "context": 1, "work": str(tmp_path)}
    program = "import json, sys; from job import Job; print(json.dumps(str(Job.from_arguments())))"
    import subprocess  # noqa: PLC0415

    folder = Path(__file__).parents[3] / "benchmarks" / "peers"
    run = subprocess.run(
        [sys.executable, "-c", program, json.dumps(given)], cwd=folder, capture_output=True, text=True, check=True
    )
    assert "variant='x'" in run.stdout
