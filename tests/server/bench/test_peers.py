"""Peers, servers at a URL and command lines as targets, also those that fail."""

import sys

import pytest

from cupola.frontend import Message
from cupola_server.bench.errors import TargetError
from cupola_server.bench.peers import CommandTarget, Job, PeerTarget, RemoteTarget
from cupola_server.bench.prompts import Prompt

PROMPT = Prompt((Message("user", "Hello"),), (7, 8, 9))
LINES_PROGRAM = """import json, sys
job = json.loads(sys.argv[1])
print("a library says hello")
print(json.dumps({"load_s": 0.5, "versions": {"thing": "1"}, "build": job["variant"]}), flush=True)
for line in sys.stdin:
    print(json.dumps({"times": [0.1, 0.2][: json.loads(line)["new_tokens"]]}), flush=True)
"""
SERVER_PROGRAM = """import http.server, sys
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
def job(tmp_path):
    return Job("tiny:1", tmp_path, threads=1, streams=4, context=128)


@pytest.mark.anyio
async def test_a_peer_with_the_lines_protocol_gets_requests_as_lines(write_adapter, job):
    target = PeerTarget(write_adapter(LINES_PROGRAM), "fancy", job)
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
async def test_the_error_for_a_peer_that_does_not_start_has_its_error_output(write_adapter, job, program, sentence):
    with pytest.raises(TargetError, match=sentence):
        async with PeerTarget(write_adapter(program), "plain", job).open():
            pytest.fail("the target must not open")


@pytest.mark.anyio
async def test_the_error_for_a_peer_that_dies_during_a_response_has_its_error_output(write_adapter, job):
    program = LINES_PROGRAM.partition("for line")[0] + "sys.stdin.readline(); sys.exit('crash')\n"
    target = PeerTarget(write_adapter(program), "plain", job)
    async with target.open():
        with pytest.raises(TargetError, match="crash"):
            await target.generate(PROMPT, 1)


@pytest.mark.anyio
async def test_a_command_is_ready_once_its_server_lists_a_model(tmp_path):
    program = tmp_path / "server.py"
    program.write_text(SERVER_PROGRAM)
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
    with pytest.raises(TargetError, match=sentence):
        async with CommandTarget(command, "tiny:1", threads=2).open():
            pytest.fail("the target must not open")
