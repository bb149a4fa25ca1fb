"""What travels between an OpenAI client and this front-end: requests, decoded once, and every reply.

Fields and shapes follow OpenAI's API reference as of the `openai` client 3.57. A file is one endpoint's, or what
several share; an endpoint's own types are imported from its file.
"""

from cupola_server.openai.schema.chat import ChatRequest, StreamOptions
from cupola_server.openai.schema.completion import (
    ChatCompletion,
    ChatCompletionChunk,
    ChunkChoice,
    CompletionChoice,
    CompletionMessage,
    Delta,
    FinishReason,
)
from cupola_server.openai.schema.errors import ErrorBody, ErrorObject
from cupola_server.openai.schema.messages import (
    AssistantMessage,
    AudioPart,
    ChatMessage,
    Content,
    DeveloperMessage,
    FilePart,
    FunctionMessage,
    ImagePart,
    Part,
    RefusalPart,
    SystemMessage,
    TextPart,
    ToolMessage,
    UserMessage,
)
from cupola_server.openai.schema.models import Model, ModelList
from cupola_server.openai.schema.usage import CompletionUsage, PromptTokensDetails

__all__ = [
    "AssistantMessage",
    "AudioPart",
    "ChatCompletion",
    "ChatCompletionChunk",
    "ChatMessage",
    "ChatRequest",
    "ChunkChoice",
    "CompletionChoice",
    "CompletionMessage",
    "CompletionUsage",
    "Content",
    "Delta",
    "DeveloperMessage",
    "ErrorBody",
    "ErrorObject",
    "FilePart",
    "FinishReason",
    "FunctionMessage",
    "ImagePart",
    "Model",
    "ModelList",
    "Part",
    "PromptTokensDetails",
    "RefusalPart",
    "StreamOptions",
    "SystemMessage",
    "TextPart",
    "ToolMessage",
    "UserMessage",
]
