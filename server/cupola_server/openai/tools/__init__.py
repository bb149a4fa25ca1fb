"""Tool calling: the formats in which models write calls, told from their text and asked for by prompt or grammar.

Only `answers` and the translation of requests use it. Whoever adds a format implements `ToolFormat`.
"""

from cupola_server.openai.tools.formats import TOOL_FORMATS, JsonFormat, ToolFormat, format_for
from cupola_server.openai.tools.functions import FunctionTool, NamedFunction
from cupola_server.openai.tools.parsing import CallParser, JsonCallParser
from cupola_server.openai.tools.reading import CallArguments, CallOpened, CallPart

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
