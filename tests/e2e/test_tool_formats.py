"""Calls and reasoning in every format, whole: the official client, a real worker, real templates and special tokens.

The models are tiny and say what they were made to say, so that nothing but us decides what becomes of it.
"""

import json
from dataclasses import dataclass

import anyio
import httpx
import pytest

from cupola import Settings
from cupola.frontend import ModelInfo
from cupola.settings import CacheSettings
from cupola_plugins.filesystem import FilesystemCache
from e2e.conftest import Service
from scripted_model import write_scripted_model

TURN = "{{ '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}"
OPEN = "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
CALL = '{"name": "get_weather", "arguments": {"city": "Rome"}}'
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
ASKED = [{"role": "user", "content": "The weather in Rome?"}]


@dataclass(frozen=True)
class Kind:
    """A family of models: its template's way with tools, its special tokens, and what a model of it answers."""

    alias: str
    template: str
    script: str
    specials: tuple[str, ...] = ()
    content: str | None = None
    reasoning: str | None = None
    calls: int = 1
    shown: str = ""


def with_tools(listed, called, result):
    """Write a template that lists tools, writes calls and shows results in a family's way."""
    return (
        f"{{% if tools %}}{listed}{{% endif %}}{{% for message in messages %}}"
        f"{{% if message.role == 'tool' %}}{result}{{% elif message.tool_calls %}}"
        f"{{% for call in message.tool_calls %}}{called}{{% endfor %}}"
        f"{{% else %}}{TURN}{{% endif %}}{{% endfor %}}{OPEN}"
    )


HERMES = with_tools(
    "{{ '<|im_start|>system\\n# Tools: ' }}{{ tools | tojson }}{{ ' Use <tool_call></tool_call>.<|im_end|>\\n' }}",
    "{{ '<tool_call>' }}{{ call.function.name }}{{ '</tool_call>' }}",
    "{{ '<|im_start|>user\\n<tool_response>' + message.content + '</tool_response><|im_end|>\\n' }}",
)
MISTRAL = with_tools(
    "{{ '[AVAILABLE_TOOLS]' }}{{ tools | tojson }}",
    "{{ '[TOOL_CALLS]' }}{{ call.function.name }}{{ call.id }}",
    "{{ '[TOOL_RESULTS]' + message.content + message.tool_call_id }}",
)
PHI4 = with_tools(
    "{{ '<|tool|>' }}{{ tools | tojson }}{{ '<|/tool|>' }}",
    "{{ '<|tool_call|>' }}{{ call.function.name }}{{ '<|/tool_call|>' }}",
    "{{ '<|tool_response|>' + message.content }}",
)
LLAMA3 = with_tools(
    "{{ '<|start_header_id|>Environment: ipython ' }}{{ tools | tojson }}",
    "{{ call.function.name }}",
    "{{ '<|start_header_id|>ipython ' + message.content }}",
)
GENERIC = with_tools("{{ tools | tojson }}", "{{ call.function.name }}", "{{ 'RESULT ' + message.content }}")
PLAIN = f"{{% for message in messages %}}{TURN}{{% endfor %}}{OPEN}"
THINK = PLAIN + "{# answers begin with <think> #}"
THINKING = PLAIN.replace("assistant\\n", "assistant\\n<think>\\n")
HARMONY = PLAIN + "{# <|channel|>analysis #}"

KINDS = [
    Kind("hermes", HERMES, f"I look.\n<tool_call>\n{CALL}\n</tool_call>", content="I look.", shown="<tool_response>"),
    Kind(
        "hermes-two",
        HERMES,
        f"<tool_call>\n{CALL}\n</tool_call>\n<tool_call>\n{CALL.replace('Rome', 'Oslo')}\n</tool_call>",
        calls=2,
        shown="<tool_response>",
    ),
    Kind("mistral", MISTRAL, f"[TOOL_CALLS][{CALL}]", ("[TOOL_CALLS]",), shown="[TOOL_RESULTS]"),
    Kind(
        "phi-4",
        PHI4,
        f"<|tool_call|>[{CALL}]<|/tool_call|>",
        ("<|tool_call|>", "<|/tool_call|>"),
        shown="<|tool_response|>",
    ),
    Kind("llama-3", LLAMA3, CALL.replace("arguments", "parameters"), shown="ipython"),
    Kind("generic", GENERIC, CALL, shown="RESULT"),
    Kind("untaught", PLAIN, f"<tool_call>\n{CALL}\n</tool_call>", shown="<tool_response>"),
    Kind(
        "thinks-and-calls",
        HERMES.replace("# Tools", "# <think> Tools"),
        f"<think>\nRome it is.\n</think>\n\n<tool_call>\n{CALL}\n</tool_call>",
        reasoning="Rome it is.",
        shown="<tool_response>",
    ),
    Kind("thinks", THINK, "<think>\nTwo and two.\n</think>\n\nFour.", (), "Four.", "Two and two.", 0),
    Kind("thinks-at-once", THINKING, "Two and two.\n</think>\n\nFour.", (), "Four.", "Two and two.", 0),
    Kind(
        "harmony",
        HARMONY,
        "<|channel|>analysis<|message|>Two and two.<|end|><|start|>assistant<|channel|>final<|message|>Four.",
        ("<|end|>", "<|start|>assistant<|channel|>final<|message|>", "<|channel|>", "<|message|>"),
        "Four.",
        "Two and two.",
        0,
    ),
]


async def _fill(cache):
    store = FilesystemCache(cache)
    for kind in KINDS:
        info = ModelInfo(
            id=f"{kind.alias}-generic-cpu:1", alias=kind.alias, source="t", publisher="Tests", size_bytes=1
        )
        async with await store.reserve(info) as staging:
            write_scripted_model(staging.path, kind.script, kind.template, specials=kind.specials)
            await staging.commit()


@pytest.fixture(scope="module")
def scripted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scripted")
    anyio.run(_fill, folder / "cache")
    service = Service(Settings(cache=CacheSettings(dir=str(folder / "cache"))), folder / "log")
    yield service
    assert service.stop() == 0, service.log.read_text()


def asked_of(service, kind, messages=ASKED, **fields):
    tools = {"tools": [WEATHER]} if kind.calls else {}
    return service.openai.chat.completions.create(
        model=kind.alias, messages=messages, temperature=0, max_tokens=200, **{**tools, **fields}
    )


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.alias)
def test_calls_and_thoughts_are_told_apart_whole_and_streamed(scripted, kind):
    [choice] = asked_of(scripted, kind).choices
    message = choice.message
    assert message.content == kind.content
    assert getattr(message, "reasoning_content", None) == kind.reasoning
    calls = message.tool_calls or []
    assert [call.function.name for call in calls] == ["get_weather"] * kind.calls
    assert [json.loads(call.function.arguments)["city"] for call in calls] == ["Rome", "Oslo"][: kind.calls]
    assert choice.finish_reason == ("tool_calls" if kind.calls else "stop")

    deltas = [chunk.choices[0].delta for chunk in asked_of(scripted, kind, stream=True)]
    assert "".join(delta.content or "" for delta in deltas) == (kind.content or "")
    thoughts = [delta.reasoning_content for delta in deltas if getattr(delta, "reasoning_content", None)]
    assert "".join(thoughts) == (kind.reasoning or "")
    assert bool(thoughts) == bool(kind.reasoning)
    pieces = [delta.tool_calls[0] for delta in deltas if delta.tool_calls]
    for call in calls:
        own = [piece.function.arguments for piece in pieces if piece.index == calls.index(call)]
        assert "".join(own) == call.function.arguments
        assert len(own) > 2


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.calls], ids=lambda kind: kind.alias)
def test_what_a_function_returned_goes_back_through_the_template(scripted, kind):
    message = asked_of(scripted, kind).choices[0].message
    results = [{"role": "tool", "tool_call_id": call.id, "content": "Sunny."} for call in message.tool_calls]
    conversation = [*ASKED, message.model_dump(exclude_none=True), *results]
    assert asked_of(scripted, kind, conversation).choices
    body = {"model": kind.alias, "messages": conversation, "tools": [WEATHER]}
    tokens = httpx.post(f"{scripted.url}/tokenize", json=body, timeout=60).json()["tokens"]
    text = httpx.post(f"{scripted.url}/detokenize", json={"model": kind.alias, "tokens": tokens}, timeout=60).json()
    assert kind.shown in text["prompt"]
    assert text["prompt"].count("Sunny.") == kind.calls
    assert "get_weather" in text["prompt"]


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.calls], ids=lambda kind: kind.alias)
@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "get_time"}}], ids=str)
def test_a_required_call_is_made_whatever_the_model_would_rather_say(scripted, kind, choice):
    time = {"type": "function", "function": {"name": "get_time", "parameters": {"enum": [{}]}}}
    tools = [time] if choice == "required" else [WEATHER, time]
    asked = asked_of(scripted, kind, tools=tools, tool_choice=choice, parallel_tool_calls=False)
    [call] = asked.choices[0].message.tool_calls
    assert (call.function.name, call.function.arguments) == ("get_time", "{}")


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.reasoning], ids=lambda kind: kind.alias)
def test_responses_tell_thoughts_from_answers_too(scripted, kind):
    reply = scripted.openai.responses.create(model=kind.alias, input="2+2?", temperature=0, store=False)
    assert reply.output[0].type == "reasoning"
    assert reply.output[0].content[0].text == kind.reasoning
    assert reply.usage.output_tokens_details.reasoning_tokens > 0
