"""Requests and worker specs for the echo provider."""

import os
from pathlib import Path

import msgspec

from cupola import Settings
from cupola.frontend import ChatPrompt, GenerateRequest, Message, TurnFinished
from cupola.protocol import Load
from cupola.settings import ModelSettings
from cupola.worker.process import WorkerSpec

TESTS = str(Path(__file__).parent)


def echo_spec(folder, *, capacity=1, nodes=None, models=None, **limits):
    settings = Settings(
        providers={"echo": {"capacity": capacity, "nodes": nodes or {}}}, models=models or ModelSettings()
    )
    return WorkerSpec(
        load=Load(
            "echo_plugin", "EchoExecutionProvider", "echo:1", str(folder), "CPU", 0, msgspec.to_builtins(settings)
        ),
        environment={
            "ECHO_CAPACITY": str(capacity),
            "PYTHONPATH": os.pathsep.join([TESTS, os.environ.get("PYTHONPATH", "")]),
        },
        **limits,
    )


def chat(*contents, model="echo:1", **options):
    return GenerateRequest(model, ChatPrompt(tuple(Message("user", content) for content in contents)), **options)


async def text_of(turn):
    """Read a worker's turn to its end: its text, and how it finished."""
    text = ""
    while not isinstance(event := await turn.mailbox.get(), TurnFinished):
        text += event.text
    return text, event
