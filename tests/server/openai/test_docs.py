"""docs/openai.md says of every field what the code does with it."""

import re
from pathlib import Path

import msgspec
import pytest

from cupola.frontend import Settings
from cupola_server.openai import OpenAIFrontend, chat
from cupola_server.openai.responses import params
from server.fake_engine import FakeEngine

PAGE = (Path(__file__).parents[3] / "docs" / "openai.md").read_text("utf-8")
OPERATIONS = OpenAIFrontend(Settings()).app(FakeEngine()).operations
BODIES = [operation for operation in OPERATIONS if operation.request]
REFUSED = {
    "/v1/chat/completions": set(chat._REFUSED),
    "/v1/completions": {"best_of", "suffix"},
    "/v1/responses": set(params._REQUEST),
    "/v1/responses/input_tokens": {"truncation", "conversation", "personality"},
    "/tokenize": {"add_special_tokens", "continue_final_message", "return_token_strs"},
}


def table(path):
    """Return what the page says of each field of an endpoint's body."""
    section = PAGE.partition(f"\n## POST {path}\n")[2].partition("\n## ")[0]
    said = {}
    for names, verdict in re.findall(r"^\| (`.*?`) \| (\w+) \|", section, re.MULTILINE):
        for name in re.findall(r"`(\w+)`", names):
            assert name not in said, f"{name} is there twice"
            said[name] = verdict
    return said


@pytest.mark.parametrize("operation", BODIES, ids=lambda operation: operation.path)
def test_every_field_is_in_the_table_and_refused_ones_are_said_to_be(operation):
    said = table(operation.path)
    assert set(said) == {field.encode_name for field in msgspec.structs.fields(operation.request)}
    assert set(said.values()) <= {"honoured", "accepted", "refused"}
    assert {name for name, verdict in said.items() if verdict == "refused"} == REFUSED.get(operation.path, set())


def test_every_endpoint_is_in_the_table():
    for operation in OPERATIONS:
        path = operation.path.replace(":path}", "}")
        assert re.search(rf"`{operation.method} {re.escape(path)}`", PAGE), operation.path
