"""The import page of programs that run the engine themselves: `open_engine`, requests, answers and listings.

    async with open_engine(load_settings()) as engine:
        request = GenerateRequest(model="smollm2-135m", prompt=ChatPrompt((Message("user", "Hello!"),)))
        async with engine.generate(request) as generation:
            async for event in generation:
                ...

Errors are in `cupola.errors`. A program that only talks to the running service takes `cupola.client` instead.
"""

from cupola.contracts import (
    CachedModel,
    Device,
    DeviceType,
    DownloadStatus,
    Generation,
    ImportOptions,
    ModelInfo,
    ModelStatus,
    Progress,
    ProgressEvent,
    PromptTemplate,
    ResidentStatus,
)
from cupola.engine.engine import Engine, open_engine
from cupola.messages import (
    ChatPrompt,
    Embeddings,
    EmbedRequest,
    FinishReason,
    GenerateRequest,
    Guidance,
    Message,
    Sampling,
    SessionReport,
    TextPrompt,
    TokenLogprob,
    TokenPrompt,
    Tool,
    ToolCall,
    ToolUse,
    TurnCall,
    TurnFinished,
    TurnReasoning,
    TurnText,
    Usage,
)
from cupola.settings import Settings, load_settings

__all__ = [
    "CachedModel",
    "ChatPrompt",
    "Device",
    "DeviceType",
    "DownloadStatus",
    "EmbedRequest",
    "Embeddings",
    "Engine",
    "FinishReason",
    "GenerateRequest",
    "Generation",
    "Guidance",
    "ImportOptions",
    "Message",
    "ModelInfo",
    "ModelStatus",
    "Progress",
    "ProgressEvent",
    "PromptTemplate",
    "ResidentStatus",
    "Sampling",
    "SessionReport",
    "Settings",
    "TextPrompt",
    "TokenLogprob",
    "TokenPrompt",
    "Tool",
    "ToolCall",
    "ToolUse",
    "TurnCall",
    "TurnFinished",
    "TurnReasoning",
    "TurnText",
    "Usage",
    "load_settings",
    "open_engine",
]
