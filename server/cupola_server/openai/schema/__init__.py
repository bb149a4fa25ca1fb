"""The request and response types of OpenAI's API.

Fields follow OpenAI's API reference as of the `openai` client 3.57. Each module holds the types of one endpoint, or
types that several endpoints share.
"""

from cupola_server.openai.schema.chat import ChatRequest, StreamOptions
from cupola_server.openai.schema.chat_completion import (
    ChatCompletion,
    ChatCompletionChunk,
    ChunkChoice,
    CompletionChoice,
    CompletionMessage,
    CompletionUsage,
    Delta,
    FinishReason,
    PromptTokensDetails,
)
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
