import pytest

from cupola_server.bench.errors import PromptTooShortError
from cupola_server.bench.prompts import Prompts

pytestmark = pytest.mark.anyio


async def words(prompt):
    """A tokenizer that knows words, and some of them as two tokens."""
    text = " ".join(message.content for message in prompt.messages)
    return [hash((word, part)) for word in text.split() for part in range(2 if word == "thunder" else 1)]


async def test_prompts_have_the_wished_length_and_share_no_beginning():
    prompts = Prompts(words)
    made = [await prompts.prompt(number, 64) for number in range(30)]
    assert {len(prompt.tokens) for prompt in made} <= {63, 64, 65}
    assert len({prompt.tokens[0] for prompt in made}) == 30


async def test_the_same_number_is_the_same_prompt():
    prompts = Prompts(words)
    assert await prompts.prompt(7, 64) is await prompts.prompt(7, 64)
    assert prompts.digest != Prompts(words).digest


async def test_a_length_that_the_template_alone_exceeds_is_told():
    with pytest.raises(PromptTooShortError, match="No prompt can have 3 tokens: .* take 16"):
        await Prompts(words).prompt(1, 3)
