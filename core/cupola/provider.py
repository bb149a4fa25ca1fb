"""The import page of provider authors: implement `ExecutionProvider` and `Session`, or `EmbeddingSession`.

Return the provider from an `execution_providers` hook. Errors to raise are in `cupola.errors`; the conformance suites
are `cupola.testing.ExecutionProviderSuite` and `SessionSuite`. A `place_model` hook finds what it needs here as well.
"""

from cupola.contracts import (
    Device,
    DeviceType,
    EmbeddingSession,
    ExecutionProvider,
    Limits,
    Logprob,
    ModelFiles,
    ModelInfo,
    Placement,
    PromptTemplate,
    ProviderReport,
    Session,
    TextStream,
    TokenEvent,
    Tokenizer,
    Turn,
)
from cupola.contracts.provider import NoOptions
from cupola.errors import WireError, to_wire
from cupola.hookspecs import hookimpl
from cupola.messages import ChatPrompt, FinishReason, Guidance, Message, Sampling, Tool, ToolCall
from cupola.settings import Settings

__all__ = [
    "ChatPrompt",
    "Device",
    "DeviceType",
    "EmbeddingSession",
    "ExecutionProvider",
    "FinishReason",
    "Guidance",
    "Limits",
    "Logprob",
    "Message",
    "ModelFiles",
    "ModelInfo",
    "NoOptions",
    "Placement",
    "PromptTemplate",
    "ProviderReport",
    "Sampling",
    "Session",
    "Settings",
    "TextStream",
    "TokenEvent",
    "Tokenizer",
    "Tool",
    "ToolCall",
    "Turn",
    "WireError",
    "hookimpl",
    "to_wire",
]
