"""Translates requests to bodies for external services. Only fields that the client set are sent."""

from typing import Any

import msgspec

from cupola.errors import InvalidParameterError
from cupola.messages import ChatPrompt, GenerateRequest, Guidance, Message, TextPrompt, ToolUse

Body = dict[str, Any]

_GUIDED = {"regex": "guided_regex", "lark": "guided_grammar", "choice": "guided_choice"}


def path_and_body(request: GenerateRequest, model: str, max_tokens_field: str) -> tuple[str, Body]:
    """Return the path and the body of a request.

    Fields that OpenAI's API lacks (`top_k`, `min_p`, ...) have the names that most services use.

    Raises:
        InvalidParameterError: External services do not support the request.
    """
    body: Body = {"model": model, "stream": True, "stream_options": {"include_usage": True}, **_shared(request)}
    if isinstance(request.prompt, ChatPrompt):
        if request.max_tokens is not None:
            body[max_tokens_field] = request.max_tokens
        return "/chat/completions", {**body, **_chat(request, request.prompt)}
    if request.top_logprobs is not None:
        detail = "'logprobs' is not supported for text completions of external models. Use chat completions."
        raise InvalidParameterError(param="logprobs", detail=detail)
    prompt = request.prompt
    body["prompt"] = prompt.text if isinstance(prompt, TextPrompt) else list(prompt.tokens)
    if request.max_tokens is not None:
        body["max_tokens"] = request.max_tokens
    return "/completions", body


def _shared(request: GenerateRequest) -> Body:
    sampling = request.sampling
    fields: Body = {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k,
        "min_p": sampling.min_p or None,
        "repetition_penalty": sampling.repetition_penalty,
        "presence_penalty": sampling.presence_penalty or None,
        "frequency_penalty": sampling.frequency_penalty or None,
        "logit_bias": {str(token): bias for token, bias in sampling.logit_bias.items()} or None,
        "seed": sampling.seed,
        "stop": list(request.stop) or None,
        "stop_token_ids": list(request.stop_token_ids) or None,
        "ignore_eos": request.ignore_eos or None,
        "min_tokens": request.min_tokens or None,
    }
    return {name: value for name, value in fields.items() if value is not None} | _guided(request.guidance)


def _chat(request: GenerateRequest, prompt: ChatPrompt) -> Body:
    body: Body = {"messages": [_message(message) for message in prompt.messages]}
    if request.top_logprobs is not None:
        body |= {"logprobs": True, "top_logprobs": request.top_logprobs}
    if request.reasoning_effort is not None:
        body["reasoning_effort"] = request.reasoning_effort
    if prompt.template_options:
        body["chat_template_kwargs"] = prompt.template_options
    if prompt.tools:
        use = request.tool_use or ToolUse()
        body |= {"tools": _tools(prompt, use), "tool_choice": use.choice}
        if use.only is not None:
            body["tool_choice"] = {"type": "function", "function": {"name": use.only}}
        if not use.parallel:
            body["parallel_tool_calls"] = False
    return body


def _tools(prompt: ChatPrompt, use: ToolUse) -> list[Body]:
    tools = []
    for tool in prompt.tools:
        function: Body = {"name": tool.name, "parameters": tool.parameters or {"type": "object", "properties": {}}}
        if tool.description:
            function["description"] = tool.description
        if tool.name in use.strict:
            function["strict"] = True
        tools.append({"type": "function", "function": function})
    return tools


def _message(message: Message) -> Body:
    body: Body = {"role": message.role, "content": message.content}
    if message.name is not None:
        body["name"] = message.name
    if message.tool_calls:
        body["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in message.tool_calls
        ]
        body["content"] = message.content or None
    if message.tool_call_id is not None:
        body["tool_call_id"] = message.tool_call_id
    if message.reasoning_content is not None:
        body["reasoning_content"] = message.reasoning_content
    return body


def _guided(guidance: Guidance | None) -> Body:
    if guidance is None:
        return {}
    if guidance.kind == "json_object":
        return {"response_format": {"type": "json_object"}}
    if guidance.kind == "json_schema":
        schema = {"name": "answer", "schema": msgspec.json.decode(guidance.text), "strict": True}
        return {"response_format": {"type": "json_schema", "json_schema": schema}}
    text = guidance.text
    return {_GUIDED[guidance.kind]: msgspec.json.decode(text) if guidance.kind == "choice" else text}
