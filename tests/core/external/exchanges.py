"""How tests ask."""

from cupola.frontend import ChatPrompt, GenerateRequest, Message

ASK = ChatPrompt((Message("user", "Hi"),))


async def events_of(engine, model="cloud/big", prompt=ASK, **options):
    async with engine.generate(GenerateRequest(model, prompt, **options)) as generation:
        return [event async for event in generation]
