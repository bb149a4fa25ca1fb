"""Function calling: the formats in which models write calls, their parsers, and their grammars.

To add a format, implement `ToolFormat`.
"""

from cupola_server.openai.tools.call_parser import CallParser, JsonCallParser
from cupola_server.openai.tools.call_reader import CallArguments, CallOpened, CallPart
from cupola_server.openai.tools.formats import (
    TOOL_FORMATS,
    FunctionTool,
    JsonFormat,
    NamedFunction,
    ToolFormat,
    format_for,
)

__all__ = [
    "TOOL_FORMATS",
    "CallArguments",
    "CallOpened",
    "CallParser",
    "CallPart",
    "FunctionTool",
    "JsonCallParser",
    "JsonFormat",
    "NamedFunction",
    "ToolFormat",
    "format_for",
]
