"""From OpenAI's request to the engine's: every field is honoured, accepted with a reason, or refused."""

import msgspec
import pytest

from cupola.frontend import GenerateRequest, Message, Sampling
from cupola_server.openai import chat
from cupola_server.openai.chat import to_chat_params
from cupola_server.openai.schema import ChatRequest

HONOURED = {
    *("messages", "model", "stream", "stream_options", "n", "max_completion_tokens", "max_tokens", "stop"),
    *("temperature", "top_p", "seed", "presence_penalty", "frequency_penalty", "logit_bias"),
    *("logprobs", "top_logprobs", "response_format", "tools", "tool_choice", "parallel_tool_calls"),
    *("reasoning_effort", "top_k", "min_p", "repetition_penalty", "ignore_eos", "min_tokens", "stop_token_ids"),
    *("chat_template_kwargs", "guided_json", "guided_regex", "guided_choice", "guided_grammar"),
    *("structured_outputs", "ttl", "ep"),
}
MEANINGLESS = {"user", "safety_identifier", "metadata", "prompt_cache_key"}


def translated(messages: object = "Hello", **fields: object) -> GenerateRequest:
    if isinstance(messages, str):
        messages = [{"role": "user", "content": messages}]
    body = msgspec.json.encode({"model": "tiny", "messages": messages, **fields})
    return to_chat_params(msgspec.json.decode(body, type=ChatRequest)).request


def messages_of(*messages: object) -> tuple[Message, ...]:
    return translated(list(messages)).prompt.messages


def test_every_field_of_the_request_is_accounted_for():
    assert {*HONOURED, *MEANINGLESS, *chat._REFUSED} == set(ChatRequest.__struct_fields__)
    assert not HONOURED & MEANINGLESS
    assert not (HONOURED | MEANINGLESS) & set(chat._REFUSED)
    assert all(name in ChatRequest.__doc__ for name in MEANINGLESS)


def test_a_bare_request_leaves_everything_to_the_model():
    assert translated() == GenerateRequest(
        model="tiny", prompt=translated().prompt, sampling=Sampling(), max_tokens=None, stop=(), ttl_s=None
    )


def test_sampling_reaches_the_engine_as_it_was_asked_for():
    request = translated(
        temperature=0.5,
        top_p=0.9,
        top_k=40,
        min_p=0.05,
        repetition_penalty=1.1,
        seed=7,
        presence_penalty=1,
        frequency_penalty=-1,
        logit_bias={"50": 2, "7": -100},
    )
    assert request.sampling == Sampling(
        temperature=0.5,
        top_k=40,
        top_p=0.9,
        min_p=0.05,
        repetition_penalty=1.1,
        presence_penalty=1.0,
        frequency_penalty=-1.0,
        logit_bias={50: 2.0, 7: -100.0},
        seed=7,
    )


def test_limits_reach_the_engine_as_they_were_asked_for():
    request = translated(max_completion_tokens=5, stop=["a", "b"], ignore_eos=True, ttl=30, ep="cuda")
    assert (request.max_tokens, request.stop, request.ignore_eos, request.ttl_s) == (5, ("a", "b"), True, 30.0)
    assert request.provider == "cuda"


def test_the_older_name_of_the_token_limit_is_honoured():
    assert translated(max_tokens=5).max_tokens == 5
    assert translated(max_tokens=5, max_completion_tokens=5).max_tokens == 5


def test_one_stop_string_may_come_without_a_list():
    assert translated(stop="END").stop == ("END",)


@pytest.mark.parametrize("top_k", [0, -1])
def test_no_limit_on_the_number_of_tokens_can_be_written_in_both_usual_ways(top_k):
    assert translated(top_k=top_k).sampling.top_k == 0


def test_a_top_p_of_zero_becomes_the_smallest_that_the_engine_takes():
    assert 0 < translated(top_p=0).sampling.top_p < 0.001


@pytest.mark.parametrize("name", sorted(set(ChatRequest.__struct_fields__) - {"messages", "model"}))
def test_null_is_the_same_as_leaving_a_field_out(name):
    assert translated(**{name: None}) == translated()


@pytest.mark.parametrize(
    "fields",
    [
        *[{"user": "me"}, {"safety_identifier": "x"}, {"metadata": {"a": "b"}}, {"prompt_cache_key": "x"}],
        *[{"store": False}, {"service_tier": "auto"}, {"service_tier": "default"}, {"n": 1}, {"logprobs": False}],
        *[{"top_logprobs": 0}, {"tools": []}, {"tool_choice": "none"}, {"functions": []}, {"function_call": "none"}],
        *[{"response_format": {"type": "text"}}, {"modalities": ["text"]}, {"verbosity": "medium"}],
        *[{"parallel_tool_calls": True}, {"prompt_cache_retention": "in_memory"}, {"stop": []}, {"logit_bias": {}}],
        *[{"stream": False}, {"stream": True, "stream_options": {"include_obfuscation": False}}],
    ],
    ids=str,
)
def test_what_asks_for_nothing_special_is_accepted(fields):
    assert translated(**fields) == translated()


def test_roles_reach_the_template_with_developers_as_system():
    assert messages_of(
        {"role": "developer", "content": "Be brief."},
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "Hello", "name": "Ann"},
        {"role": "assistant", "content": "Hi"},
    ) == (
        Message("system", "Be brief."),
        Message("system", "Be kind."),
        Message("user", "Hello", "Ann"),
        Message("assistant", "Hi"),
    )


def test_text_parts_are_joined_by_line_ends():
    hint = {"mode": "explicit"}
    parts = [{"type": "text", "text": "one", "prompt_cache_breakpoint": hint}, {"type": "text", "text": "two"}]
    assert messages_of({"role": "user", "content": parts}) == (Message("user", "one\ntwo"),)


def test_a_refusal_stands_in_for_the_answer_it_was():
    part = {"type": "refusal", "refusal": "No."}
    assert messages_of({"role": "assistant", "content": [part]}) == (Message("assistant", "No."),)
    assert messages_of({"role": "assistant", "content": None, "refusal": "No."}) == (Message("assistant", "No."),)


def test_an_empty_text_is_a_text():
    assert messages_of({"role": "user", "content": ""}) == (Message("user", ""),)
    assert messages_of({"role": "assistant", "content": ""}) == (Message("assistant", ""),)
