"""What the tests of responses send and look for."""

import json

import pydantic
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

EVENTS = TypeAdapter(ResponseStreamEvent)
THINKING = "{% if tools %}<tool_call>{% endif %}{{ messages }}<think>{{ enable_thinking }}{{ tool_calls }}'tool'"
"""A chat template by its signs: of a model that thinks, and calls functions in Hermes' format."""
WEATHER = {
    "type": "function",
    "name": "weather",
    "description": "Tell the weather.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    "strict": False,
}
CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "Rome"}}\n</tool_call>'


class Sum(pydantic.BaseModel):
    total: int


def check_response(data):
    """See that every field is one of OpenAI's and of its type. `store` is in OpenAI's replies, not in its client."""
    response = Response.model_validate({key: value for key, value in data.items() if key != "store"}, strict=True)
    assert isinstance(data["store"], bool)
    assert not response.model_extra
    return response


async def events_of(http, **request):
    """Stream a response; returns the events as JSON, each checked against OpenAI's types."""
    events = []
    async with http.stream("POST", "/v1/responses", json={"model": "tiny", "stream": True, **request}) as reply:
        assert reply.status_code == 200, await reply.aread()
        assert reply.headers["content-type"].startswith("text/event-stream")
        name = None
        async for line in reply.aiter_lines():
            kind, _, value = line.partition(": ")
            if kind == "event":
                name = value
            elif kind == "data":
                events.append(json.loads(value))
                assert events[-1]["type"] == name
    for event in events:
        EVENTS.validate_python(event)
        if "response" in event:
            check_response(event["response"])
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    return events
