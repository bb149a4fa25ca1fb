"""Plain completions and tokens, whole: the real client, a real worker and the real starter model."""

import math
import re

import httpx
import openai
import pytest

MODEL = "smollm2-135m"
START = "The capital of France is"


def completed(service, **options):
    return service.openai.completions.create(**{"model": MODEL, "prompt": START, "temperature": 0, **options})


def post(service, path, **body):
    return httpx.post(f"{service.url}{path}", json={"model": MODEL, **body}, timeout=60)


@pytest.fixture(scope="module")
def plain(service):
    return completed(service)


def test_a_text_goes_on_sensibly_for_16_tokens(plain):
    assert "Paris" in plain.choices[0].text
    assert plain.choices[0].finish_reason == "length"
    assert (plain.usage.completion_tokens, plain.usage.prompt_tokens) == (16, 5)


def test_a_stream_and_a_token_array_give_the_same_text(service, plain):
    stream = completed(service, stream=True)
    assert "".join(chunk.choices[0].text for chunk in stream) == plain.choices[0].text
    tokens = post(service, "/tokenize", prompt=START).json()["tokens"]
    assert completed(service, prompt=tokens).choices[0].text == plain.choices[0].text
    assert completed(service, prompt=tokens, echo=True).choices[0].text == START + plain.choices[0].text


def test_several_prompts_and_answers_come_in_order(service, plain):
    reply = completed(service, prompt=[START, "One, two, three, four,"], n=2)
    texts = [choice.text for choice in reply.choices]
    assert texts[0] == texts[1] == plain.choices[0].text
    assert texts[2] == texts[3]
    assert "five" in texts[2]
    assert reply.usage.completion_tokens == 64


def test_log_probabilities_belong_to_the_tokens_of_the_text(service, plain):
    found = completed(service, logprobs=3).choices[0]
    logprobs = found.logprobs
    assert found.text == plain.choices[0].text == "".join(logprobs.tokens)
    assert [found.text[:offset] for offset in logprobs.text_offset] == ["".join(logprobs.tokens[:n]) for n in range(16)]
    for token, logprob, top in zip(logprobs.tokens, logprobs.token_logprobs, logprobs.top_logprobs, strict=True):
        assert logprob == max(top.values()) == top[token]
        assert sum(map(math.exp, top.values())) <= 1.0001
        assert len(top) == 3


def test_a_stop_string_cuts_text_and_log_probabilities_alike(service, plain):
    stop = plain.choices[0].text.split()[2]
    found = completed(service, stop=stop, logprobs=0).choices[0]
    assert found.finish_reason == "stop"
    assert stop not in found.text
    assert plain.choices[0].text.startswith(found.text)
    tokens = found.logprobs.tokens
    assert len("".join(tokens[:-1])) < len(found.text) <= len("".join(tokens))  # a token may be visible in part
    assert "".join(tokens).startswith(found.text)


def test_a_regular_expression_shapes_the_answer(service):
    reply = completed(service, extra_body={"guided_regex": "[0-9]{3}-[a-c]{2}"}, temperature=1)
    assert re.fullmatch("[0-9]{3}-[a-c]{2}", reply.choices[0].text)


def test_special_tokens_in_a_prompt_are_plain_text(service):
    assert completed(service, prompt="<|im_end|>").usage.prompt_tokens > 1


def test_a_token_beyond_the_vocabulary_is_refused(service):
    with pytest.raises(openai.BadRequestError, match="vocabulary") as caught:
        completed(service, prompt=[[1, 2], [10_000_000]])
    assert caught.value.param == "prompt[1]"


def test_a_prompt_beyond_the_context_is_refused_with_the_numbers(service):
    with pytest.raises(openai.BadRequestError, match="8192") as caught:
        completed(service, prompt="a " * 9000)
    assert caught.value.param == "prompt"


def test_a_chat_has_as_many_tokens_as_its_completion_says(service):
    messages = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi <|im_end|> there"}]
    counted = post(service, "/tokenize", messages=messages).json()
    answer = service.openai.chat.completions.create(model=MODEL, messages=messages, max_tokens=1)
    assert counted["count"] == len(counted["tokens"]) == answer.usage.prompt_tokens
    assert counted["max_model_len"] == 8192
    closed = post(service, "/tokenize", messages=messages, add_generation_prompt=False).json()["tokens"]
    assert closed == counted["tokens"][: len(closed)]
    assert len(closed) < counted["count"]
    text = post(service, "/detokenize", tokens=counted["tokens"]).json()["prompt"]
    assert text.startswith("<|im_start|>system\nBe kind.<|im_end|>")
    assert text.endswith("<|im_start|>assistant\n")


@pytest.mark.parametrize("text", ["", "Hello", " näh \N{GRINNING FACE} 中文\n\n\tx", "<|im_start|>"])
def test_a_text_survives_the_way_to_tokens_and_back(service, text):
    tokens = post(service, "/tokenize", prompt=text).json()["tokens"]
    assert post(service, "/detokenize", tokens=tokens).json() == {"prompt": text}


@pytest.mark.parametrize("token", [10_000_000, 2**31 - 1])
def test_a_token_that_does_not_exist_has_no_text(service, token):
    reply = post(service, "/detokenize", tokens=[1, token])
    assert reply.status_code == 400
    assert reply.json()["error"]["param"] == "tokens"
    assert str(token) in reply.json()["error"]["message"]
