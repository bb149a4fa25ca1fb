import json
from datetime import datetime

import onnxruntime_genai as og
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cupola.errors import InvalidParameterError, ModelFormatError, RequestError
from cupola_providers.runtime.chat_template import ChatTemplate

USER = {"role": "user", "content": "Hi"}
TOOL = {"type": "function", "function": {"name": "look", "description": "<Look & see>", "parameters": {"a": "é"}}}


def template(folder, source, **config):
    (folder / "chat_template.jinja").write_text(source, "utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps(config), "utf-8")
    return ChatTemplate(folder)


@pytest.fixture
def rendered(tmp_path):
    def render(source, messages=(USER,), tools=(), config=None, **options):
        return template(tmp_path, source, **(config or {})).render(messages, tools, options)

    return render


def refusal(rendered, *arguments, **fields):
    with pytest.raises(RequestError) as caught:
        rendered(*arguments, **fields)
    return str(caught.value)


@pytest.fixture(scope="module")
def starter(starter_model_path):
    return ChatTemplate(starter_model_path), og.Tokenizer(str(starter_model_path))


roles = st.sampled_from(["system", "user", "assistant", "tool"])


@given(st.lists(st.builds(lambda role, content: {"role": role, "content": content}, roles, st.text("ab {}%'\"\n<é"))))
def test_the_starter_models_chats_are_as_the_library_writes_them(starter, messages):
    ours, library = starter
    theirs = library.apply_chat_template(json.dumps(messages), template_str=ours.source, add_generation_prompt=True)
    assert ours.render(messages, (), {}) == theirs


def test_blocks_leave_no_lines_of_their_own(rendered):
    source = "{% for m in messages %}\n  {% if true %}\n{{ m.content }}\n  {% endif %}\n{% endfor %}\nend"
    assert rendered(source) == "Hi\nend"


def test_json_is_not_written_for_html(rendered):
    assert rendered("{{ tools[0].function.description | tojson }}", tools=[TOOL]) == '"<Look & see>"'
    expected = json.dumps(TOOL, indent=4, ensure_ascii=False)
    assert rendered("{{ tools[0] | tojson(indent=4) }}", tools=[TOOL]) == expected
    assert rendered("{{ {'b': 1, 'a': 2} | tojson(separators=(',', ':'), sort_keys=true) }}") == '{"a":2,"b":1}'


def test_loops_may_be_left_and_the_part_for_training_marked(rendered):
    source = (
        "{% for n in range(9) %}{% if n == 1 %}{% continue %}{% elif n > 2 %}{% break %}{% endif %}{{ n }}{% endfor %}"
    )
    assert rendered(source + "{% generation %} {{ messages[0].role }}{% endgeneration %}") == "02 user"


def test_without_tools_there_is_nothing_called_so(rendered):
    assert rendered("{{ tools is none }} {{ tools is defined }}") == "True True"


def test_the_turn_is_left_open_and_options_are_variables(rendered):
    assert rendered("{{ add_generation_prompt }} {{ enable_thinking }}", enable_thinking=False) == "True False"
    assert rendered("{{ add_generation_prompt }}", add_generation_prompt=False) == "False"


@pytest.mark.parametrize("name", ["messages", "tools"])
def test_an_option_may_not_hide_messages_or_tools(tmp_path, name):
    with pytest.raises(InvalidParameterError, match=f"{name} is reserved") as caught:
        template(tmp_path, "x").render([USER], (), {name: []})
    assert caught.value.param == "chat_template_kwargs"


def test_special_tokens_have_names_however_they_are_written(rendered):
    config = {"bos_token": "<s>", "eos_token": {"content": "</s>", "lstrip": False}, "pad_token": None}
    source = "{{ bos_token }}|{{ eos_token }}|{{ pad_token is defined }}"
    assert rendered(source, config=config) == "<s>|</s>|False"


def test_the_date_is_todays(rendered):
    assert rendered("{{ strftime_now('%Y') }}") == str(datetime.now().year)


def test_a_refusal_is_passed_on_in_the_templates_own_words(rendered):
    said = refusal(rendered, "{{ raise_exception('Roles must alternate') }}")
    assert said == "The model's chat template rejected these messages: Roles must alternate"


def test_a_template_that_calls_itself_without_end_is_an_error(rendered):
    assert "recurses infinitely" in refusal(rendered, "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}")


@pytest.mark.parametrize(
    "source",
    [
        "{{ messages.append(1) }}",
        "{{ ''.__class__.__mro__ }}",
        "{{ raise_exception.__globals__.json }}",
        "{{ range(10**9) | list }}",
        "{% include '/etc/passwd' %}",
        "{{ nothing.at.all }}",
        "{{ 'a' + 1 }}",
        "{{ 1 / 0 }}",
        "{{ [][3].x }}",
        "{% if %}",
        "{{ nothing | tojson }}",
        "{{ 'x' | no_such_filter }}",
        "{{ '%d' | format('x') }}",
    ],
)
def test_what_a_template_may_not_or_cannot_do_is_an_error(rendered, source):
    assert refusal(rendered, source).startswith("The model's chat template rejected these messages: ")


def test_a_template_file_wins_over_the_config(tmp_path):
    assert template(tmp_path, "file", chat_template="config").source == "file"
    (tmp_path / "chat_template.jinja").unlink()
    assert ChatTemplate(tmp_path).source == "config"
    (tmp_path / "tokenizer_config.json").unlink()
    assert ChatTemplate(tmp_path).source == ""
    with pytest.raises(RequestError, match="has no chat template"):
        ChatTemplate(tmp_path).render([USER], (), {})


def test_damaged_files_are_named(tmp_path):
    for name in ("chat_template.jinja", "tokenizer_config.json"):
        (tmp_path / name).write_bytes(b"\xff{")
        with pytest.raises(ModelFormatError, match=name):
            ChatTemplate(tmp_path)
        (tmp_path / name).unlink()
