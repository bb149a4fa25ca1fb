"""Every field that the installed client can send, on every endpoint: known, or refused by its name and not dropped."""

from typing import get_type_hints

import msgspec
import openai
import pytest
from openai.types import chat, completion_create_params, embedding_create_params, responses, shared_params
from openai.types.chat import completion_create_params as chat_create_params
from openai.types.responses import (
    input_item_list_params,
    input_token_count_params,
    response_create_params,
    response_input_item_param,
    response_retrieve_params,
)

from cupola_server.openai.responses import schema as response_schema
from cupola_server.openai.schema import ChatRequest, StreamOptions, fields, messages, tools
from cupola_server.openai.schema.completions import TextCompletionRequest
from cupola_server.openai.schema.embeddings import EmbeddingsRequest

pytestmark = pytest.mark.anyio

NEWEST_CLIENT_READ = (3, 57)
CHAT = {"model": "tiny", "messages": [{"role": "user", "content": "Hello"}]}
TEXT = {"model": "tiny", "prompt": "Hello"}
EMBED = {"model": "embedder", "input": "Hello"}
RESPONSE = {"model": "tiny", "input": "Hello"}

BODIES = [
    ("/v1/chat/completions", CHAT, chat_create_params.CompletionCreateParamsStreaming, ChatRequest),
    ("/v1/completions", TEXT, completion_create_params.CompletionCreateParamsStreaming, TextCompletionRequest),
    ("/v1/embeddings", EMBED, embedding_create_params.EmbeddingCreateParams, EmbeddingsRequest),
    (
        "/v1/responses",
        RESPONSE,
        response_create_params.ResponseCreateParamsStreaming,
        response_schema.ResponseRequest,
    ),
    (
        "/v1/responses/input_tokens",
        RESPONSE,
        input_token_count_params.InputTokenCountParams,
        response_schema.InputTokensRequest,
    ),
]
PARAMETERS = [
    (
        "/v1/responses/resp_0",
        response_retrieve_params.ResponseRetrieveParamsStreaming,
        response_schema.RetrieveQuery,
    ),
    (
        "/v1/responses/resp_0/input_items",
        input_item_list_params.InputItemListParams,
        response_schema.InputItemsQuery,
    ),
]
INNER = [
    (chat.ChatCompletionStreamOptionsParam, StreamOptions),
    (chat.ChatCompletionSystemMessageParam, messages.SystemMessage),
    (chat.ChatCompletionDeveloperMessageParam, messages.DeveloperMessage),
    (chat.ChatCompletionUserMessageParam, messages.UserMessage),
    (chat.ChatCompletionAssistantMessageParam, messages.AssistantMessage),
    (chat.ChatCompletionToolMessageParam, messages.ToolMessage),
    (chat.ChatCompletionContentPartTextParam, messages.TextPart),
    (chat.ChatCompletionContentPartRefusalParam, messages.RefusalPart),
    (chat.ChatCompletionMessageFunctionToolCallParam, messages.AssistantToolCall),
    (chat.ChatCompletionFunctionToolParam, tools.FunctionToolParam),
    (chat.ChatCompletionAllowedToolChoiceParam, tools.AllowedToolsChoice),
    (chat.ChatCompletionAllowedToolsParam, tools.AllowedTools),
    (shared_params.FunctionDefinition, tools.FunctionDefinition),
    (shared_params.ResponseFormatJSONSchema, fields.JsonSchemaFormat),
    (shared_params.Reasoning, response_schema.ReasoningConfig),
    (responses.EasyInputMessageParam, response_schema.MessageInput),
    (responses.ResponseOutputMessageParam, response_schema.MessageInput),
    (responses.ResponseInputTextParam, response_schema.InputTextPart),
    (responses.ResponseOutputTextParam, response_schema.OutputTextPart),
    (responses.ResponseFunctionToolCallParam, response_schema.FunctionCallInput),
    (response_input_item_param.FunctionCallOutput, response_schema.FunctionCallOutputInput),
    (responses.ResponseReasoningItemParam, response_schema.ReasoningInput),
    (responses.FunctionToolParam, response_schema.FunctionTool),
    (responses.ToolChoiceFunctionParam, response_schema.FunctionChoice),
    (responses.ToolChoiceAllowedParam, response_schema.AllowedTools),
    (responses.ResponseTextConfigParam, response_schema.TextConfig),
    (responses.ResponseFormatTextJSONSchemaConfigParam, response_schema.JsonSchemaFormat),
]


def unknown(params, kind):
    """Return the fields of the client's type that our Struct lacks."""
    known = {field.encode_name for field in msgspec.structs.fields(kind)} | {kind.__struct_config__.tag_field}
    return sorted(set(get_type_hints(params)) - known)


def must_know_all():
    """Whether nobody can have added a field since the types were last read; a newer client's are refused by name."""
    return tuple(map(int, openai.__version__.split(".")[:2])) <= NEWEST_CLIENT_READ


@pytest.mark.parametrize(
    ("path", "body", "params", "kind"), BODIES, ids=lambda value: value if isinstance(value, str) else ""
)
async def test_every_field_of_a_body_is_known_or_refused_by_name(http, engine, path, body, params, kind):
    names = unknown(params, kind)
    assert names == [] or not must_know_all()
    for name in (*names, "from_the_future"):
        reply = await http.post(path, json={**body, name: "x"})
        assert (reply.status_code, reply.json()["error"]["param"]) == (400, name)
    assert engine.requests == []


@pytest.mark.parametrize(
    ("path", "params", "kind"), PARAMETERS, ids=lambda value: value if isinstance(value, str) else ""
)
async def test_every_parameter_of_a_url_is_known_or_refused_by_name(http, path, params, kind):
    names = unknown(params, kind)
    assert names == [] or not must_know_all()
    for name in (*names, "from_the_future"):
        reply = await http.get(path, params={name: "x"})
        assert (reply.status_code, reply.json()["error"]["param"]) == (400, name)


@pytest.mark.parametrize(("params", "kind"), INNER, ids=lambda value: value.__name__)
def test_every_field_inside_a_body_is_known_or_an_error(params, kind):
    assert kind.__struct_config__.forbid_unknown_fields
    assert unknown(params, kind) == [] or not must_know_all()
