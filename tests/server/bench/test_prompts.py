import pytest

from cupola_server.bench.errors import PromptTooShortError
from cupola_server.bench.prompts import PromptFactory

pytestmark = pytest.mark.anyio


async def words(prompt):
    """Tokenize into words, one of them as two tokens."""
    text = " ".join(message.content for message in prompt.messages)
    return [hash((word, part)) for word in text.split() for part in range(2 if word == "thunder" else 1)]


async def test_prompts_have_the_requested_length_and_share_no_prefix():
    prompts = PromptFactory(words)
    made = [await prompts.prompt(number, 64) for number in range(30)]
    assert {len(prompt.tokens) for prompt in made} <= {63, 64, 65}
    assert len({prompt.tokens[0] for prompt in made}) == 30


async def test_the_same_number_returns_the_same_prompt():
    prompts = PromptFactory(words)
    assert await prompts.prompt(7, 64) is await prompts.prompt(7, 64)
    assert prompts.digest != PromptFactory(words).digest


async def test_a_length_below_that_of_the_template_is_an_error():
    with pytest.raises(PromptTooShortError, match="A prompt of 3 tokens is too short: .* take 16"):
        await PromptFactory(words).prompt(1, 3)
