"""POST /openai/download, read by the rules of every client that is known."""

import json

import anyio
import httpx
import pytest

from cupola.frontend import ProgressEvent
from server.foundry.parsers import PARSERS, csharp_sdk, javascript_sdk, python_sdk
from waiting import until

pytestmark = pytest.mark.anyio


def wanted(name, **more):
    """Return what the Python SDK sends."""
    described = {
        "Name": name,
        "Uri": f"azureml://registries/azureml/models/{name}/versions/4",
        "Publisher": "Microsoft",
        "ProviderType": "AzureFoundryLocal",
        "PromptTemplate": {"prompt": "<|user|>{Content}"},
    }
    return {"model": described, "token": None, "IgnorePipeReport": True, **more}


async def reads_over_the_wire(url, body):
    """Return what each reading of the connection brings."""
    port, data = int(url.rpartition(":")[2]), json.dumps(body).encode()
    headers = ("Host: localhost", "Content-Type: application/json", f"Content-Length: {len(data)}", "Connection: close")
    head = "\r\n".join(("POST /openai/download HTTP/1.1", *headers, "", ""))
    async with await anyio.connect_tcp("127.0.0.1", port) as connection:
        await connection.send(head.encode() + data)
        received = []
        with anyio.fail_after(20):
            while not b"".join(received).endswith(b"0\r\n\r\n"):
                received.append(await connection.receive())
    return received


async def chunks_over_the_wire(url, body):
    """Return the HTTP chunks of a reply as they were framed, which clients' libraries may or may not keep apart."""
    head, _, rest = b"".join(await reads_over_the_wire(url, body)).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200")
    chunks = []
    while True:
        size, _, rest = rest.partition(b"\r\n")
        if not (length := int(size, 16)):
            return chunks
        chunks.append(rest[:length])
        rest = rest[length + 2 :]


async def test_the_stream_is_byte_by_byte_what_clients_expect(running):
    for event in (ProgressEvent("download", 0, 300), ProgressEvent("download", 150, 300)):
        await running.shelf.send.send(event)
    await running.shelf.send.send(None)
    chunks = await chunks_over_the_wire(running.url, wanted("slow-generic-cpu:1"))
    assert chunks[0] == b"Total 0.00% Downloading slow-generic-cpu:1\n"
    assert chunks[-3:] == [
        b"Total 100.00% Downloading slow-generic-cpu:1\n",
        b"[DONE] All Completed!\n",
        b'{\n  "success": true,\n  "errorMessage": null\n}\n',
    ]


async def test_the_result_is_not_read_together_with_what_came_before_it(running):
    """JavaScript's SDK takes what one reading brings for one line, and wants the result at its beginning."""
    reads = await reads_over_the_wire(running.url, wanted("echo-generic-cpu:2"))
    assert not any(b"[DONE]" in read and b"success" in read for read in reads)
    assert any(b"[DONE]" in read for read in reads)


@pytest.mark.parametrize("parser", PARSERS, ids=lambda parser: parser.__name__)
async def test_every_client_understands_success_and_failure(running, parser):
    seen, result = parser(await chunks_over_the_wire(running.url, wanted("echo-generic-cpu:2")))
    assert result == {"success": True, "errorMessage": None}
    assert seen in ([], [0.0, 100.0], [100.0])
    for name, sentence in (
        ("lost", "nobody (knows) where it is"),
        ("bad", "x.onnx"),
        ("nobody", "Unknown model 'nobody'"),
    ):
        seen, result = parser(await chunks_over_the_wire(running.url, wanted(name)))
        assert result["success"] is False
        assert sentence in result["errorMessage"]
        assert result["error"] == result["errorMessage"]
        assert "/home" not in result["errorMessage"]


@pytest.mark.parametrize("parser", [python_sdk, javascript_sdk, csharp_sdk])
async def test_progress_is_told_while_it_is_made_and_never_falls(running, parser):
    shelf, chunks = running.shelf.send, []
    steps = [
        (ProgressEvent("download", 25, 100), "25.00%"),
        (ProgressEvent("download", 10, 100), None),
        (ProgressEvent("download", 60, 100), "60.00%"),
        (ProgressEvent("import", 3, 30, "layers"), "(import 3 of 30 layers)"),
    ]
    async with httpx.AsyncClient(base_url=running.url, timeout=20) as http:
        async with http.stream("POST", "/openai/download", json=wanted("slow")) as reply:
            assert reply.headers["content-type"] == "text/plain; charset=utf-8"
            received = reply.aiter_bytes()
            chunks.append(await anext(received))
            for event, sign in steps:  # each line is awaited before the next step is made
                await shelf.send(event)
                if sign:
                    chunks.append(await anext(received))
                    assert sign.encode() in chunks[-1]
            await shelf.send(None)
            chunks += [chunk async for chunk in received]
    seen, result = parser(chunks)
    assert result["success"]
    assert seen == sorted(seen)
    assert [share for share in dict.fromkeys(seen) if share] == [25.0, 60.0, 100.0]


async def test_a_model_that_is_there_is_done_at_once(running, http):
    for _ in range(2):
        text = (await http.post("/openai/download", json=wanted("echo"))).text
    assert text.splitlines()[:3] == [
        "Total 0.00% Downloading echo",
        "Total 100.00% Downloading echo",
        "[DONE] All Completed!",
    ]


@pytest.mark.parametrize(
    "body",
    [
        {"Model": {"Name": "echo-generic-cpu:2", "ProviderType": "AzureFoundryLocal"}, "token": ""},
        {"model": {"name": "echo-generic-cpu", "uri": "x", "path": "v3", "publisher": "P"}, "ignorePipeReport": True},
        {"MODEL": "echo", "bufferSize": 512, "progressToken": "abc"},
        wanted("ECHO-GENERIC-CPU:2"),
    ],
    ids=["csharp", "gallery", "bare", "case"],
)
async def test_the_bodies_of_all_clients_are_understood(running, http, body):
    assert "All Completed!" in (await http.post("/openai/download", json=body)).text
    assert (await http.get("/openai/models")).json() == ["echo-generic-cpu:2"]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "model"),
        ({"model": {}}, "model.name"),
        ({"model": {"Name": ""}}, "model.name"),
        ({"model": {"Name": 4}}, "model.name"),
        ({"model": None}, "model"),
        ({"model": "echo", "retries": 3}, "retries"),
        ({"model": {"Name": "echo", "Colour": "red"}}, "model.colour"),
        (wanted("echo", token="hf_secret"), "token"),
        (wanted("echo", customDirPath="/elsewhere"), "customDirPath"),
    ],
    ids=str,
)
async def test_what_cannot_be_honoured_is_a_problem_that_names_it(http, body, param):
    reply = await http.post("/openai/download", json=body)
    assert reply.status_code == 400
    assert reply.headers["content-type"] == "application/problem+json"
    assert reply.json()["param"] == param
    assert "hf_secret" not in reply.text
    assert (await http.get("/openai/models")).json() == []


@pytest.mark.parametrize(("body", "media"), [("[1]", "application/json"), ("{", "application/json"), ("{}", "text/x")])
async def test_what_is_no_json_object_is_a_problem(http, body, media):
    reply = await http.post("/openai/download", content=body, headers={"content-type": media})
    assert reply.status_code in (400, 415)
    assert reply.headers["content-type"] == "application/problem+json"


async def test_a_client_that_leaves_cancels_the_download_unless_another_waits_for_it(running):
    async def until_waiting(count):
        await until(lambda: [status.waiting for status in running.engine.downloads()] == [count])

    async with httpx.AsyncClient(base_url=running.url, timeout=20) as http:
        async with http.stream("POST", "/openai/download", json=wanted("slow")) as first:
            first_bytes = first.aiter_bytes()
            await anext(first_bytes)
            async with http.stream("POST", "/openai/download", json=wanted("slow")) as second:
                second_bytes = second.aiter_bytes()
                await anext(second_bytes)
                await until_waiting(2)
            await until_waiting(1)
            assert running.engine.downloads()[0].state == "running"
        with anyio.fail_after(10):
            await running.shelf.cancelled.wait()
        await until_waiting(0)
    assert running.engine.downloads()[0].state == "cancelled"


async def test_a_download_that_is_cancelled_elsewhere_says_so(running, http):
    async with http.stream("POST", "/openai/download", json=wanted("slow")) as reply:
        received = reply.aiter_text()
        await anext(received)
        await until(lambda: running.engine.cancel_download("slow-generic-cpu:1"))
        text = "".join([part async for part in received])
    assert '"success": false' in text
    assert "cancelled" in text
