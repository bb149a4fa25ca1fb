import click
import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from cupola.frontend import ModelInfo
from cupola_server.cli.options import FILTER_KEYS, filter_option, matches_all, parse_filter

PHI = ModelInfo(
    id="Phi-4-cuda-gpu:1",
    alias="phi-4",
    source="azure",
    publisher="Microsoft",
    device="GPU",
    provider="CUDAExecutionProvider",
    license="MIT",
)
QWEN = ModelInfo(
    id="qwen2.5-0.5b-generic-cpu:4", alias="qwen2.5-0.5b", source="azure", publisher="Qwen", supports_tool_calling=True
)


@pytest.mark.parametrize(
    "text",
    [
        "device=GPU",
        "device=gpu",
        "DEVICE = GPU",
        "device=!CPU",
        "alias=phi*",
        "alias=PHI-4",
        "alias=*4",
        "alias=p*4",
        "alias=!qwen*",
        "provider=CUDAExecutionProvider",
        "provider=cuda",
        "task=chat-completion",
        "task=chat",
        "task=!embeddings",
        "task=!tools",
        "id=Phi-4-cuda-gpu",
        "id=phi-4-cuda-gpu:1",
        "license=mit",
        "publisher=microsoft",
        "source=azure",
    ],
)
def test_a_filter_matches_a_model(text):
    assert parse_filter(text).matches(PHI)


@pytest.mark.parametrize(
    "text", ["device=CPU", "device=!GPU", "alias=phi", "alias=qwen*", "provider=webgpu", "task=tools", "id=phi-4"]
)
def test_a_filter_does_not_match_a_model(text):
    assert not parse_filter(text).matches(PHI)


def test_all_filters_must_match_a_model():
    filters = [parse_filter("device=!GPU"), parse_filter("task=tools")]
    assert matches_all(QWEN, filters)
    assert not matches_all(PHI, filters)
    assert matches_all(PHI, [])


def test_other_pattern_characters_are_literal():
    assert not parse_filter("alias=qwen2?5-0.5b").matches(QWEN)
    assert not parse_filter("alias=qwen2.5-0.[5]b").matches(QWEN)
    assert not parse_filter("alias=qwen2x5*").matches(QWEN)


@pytest.mark.parametrize("text", ["device", "device=", "device=!", "=GPU", "size=3"])
def test_an_invalid_filter_is_rejected_with_a_message(text):
    with pytest.raises(ValueError, match=r"Use KEY=VALUE|Valid filters: device, task"):
        parse_filter(text)


@given(st.sampled_from(FILTER_KEYS), st.text(min_size=1))
def test_a_filter_and_its_negation_partition_every_listing(key, value):
    value = value.strip().lstrip("!").strip() or "x"
    for model in (PHI, QWEN):
        assert parse_filter(f"{key}={value}").matches(model) is not parse_filter(f"{key}=!{value}").matches(model)


def test_a_command_takes_several_filters_and_names_a_wrong_one():
    @click.command()
    @filter_option
    def listing(filters):
        click.echo(",".join(each.pattern for each in filters))

    assert CliRunner().invoke(listing, ["--filter", "device=GPU", "--filter", "alias=!phi*"]).output == "GPU,phi*\n"
    wrong = CliRunner().invoke(listing, ["--filter", "size=3"])
    assert wrong.exit_code == 2
    assert "Unknown filter 'size'. Valid filters: " in wrong.output


def test_a_shell_completes_the_keys_and_the_devices():
    @click.command()
    @filter_option
    def listing(filters):
        """Only to be completed."""

    def offers(incomplete):
        completion = ShellComplete(listing, {}, "listing", "_LISTING_COMPLETE")
        return [item.value for item in completion.get_completions(["--filter"], incomplete)]

    assert offers("") == [f"{key}=" for key in FILTER_KEYS]
    assert offers("al") == ["alias="]
    assert offers("device=") == ["device=CPU", "device=GPU", "device=NPU"]
