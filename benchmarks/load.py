"""Many streaming clients at once, in one event loop."""

from collections.abc import Sequence
from typing import Any

import anyio

from cupola.messages import Message
from cupola_server.bench.answers import Answer, Prompt
from cupola_server.bench.client import ChatClient

_ASKED = {"model", "messages", "max_tokens"}


def run_all(url: str, bodies: Sequence[dict[str, Any]], *, at_once: int = 0) -> list[Answer]:
    """Send the requests, at most `at_once` at the same time (0: all), and wait for every answer."""
    return anyio.run(_run_all, url, bodies, at_once or len(bodies))


async def _run_all(url: str, bodies: Sequence[dict[str, Any]], at_once: int) -> list[Answer]:
    answers: list[Answer] = []
    limiter = anyio.CapacityLimiter(at_once)

    async def one(body: dict[str, Any]) -> None:
        async with limiter:
            answers.append(await _ask(url, body))

    async with anyio.create_task_group() as group:
        for body in bodies:
            group.start_soon(one, body)
    return answers


async def _ask(url: str, body: dict[str, Any]) -> Answer:
    """Stream one chat over a connection of its own."""
    extra = {name: value for name, value in body.items() if name not in _ASKED}
    messages = tuple(Message(each["role"], each["content"]) for each in body["messages"])
    client = ChatClient("the service", f"{url}/v1", body["model"], extra)
    return await client.ask(Prompt(messages, ()), body["max_tokens"])
