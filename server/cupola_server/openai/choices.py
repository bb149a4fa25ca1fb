"""Several answers to one request, running at the same time."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import anyio
from anyio.streams.memory import MemoryObjectSendStream

from cupola.frontend import Usage
from cupola_server.openai.answers import Answer, ChatTurns, Prepared
from cupola_server.openai.pieces import Finished, Piece

Receiver = Callable[[int, Piece], Awaitable[None]]


@asynccontextmanager
async def open_choices(turns: ChatTurns, prepared: Prepared, count: int) -> AsyncIterator[Sequence[Answer]]:
    """Run several turns with one prompt. Entering waits until all are accepted; leaving cancels them.

    One after the other is begun, so that the later ones find the prompt of the first in the KV cache.
    """
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(turns.open(prepared, choice)) for choice in range(count)]


async def receive(answers: Sequence[Answer], receiver: Receiver) -> Usage:
    """Hand over every piece of every answer as it comes, one at a time; returns what all of them took.

    Raises:
        WorkerError: One of them broke off.
    """
    usages: dict[int, Usage] = {}

    async def hand_over(index: int, piece: Piece) -> None:
        if isinstance(piece, Finished):
            usages[index] = piece.usage
        await receiver(index, piece)

    if len(answers) == 1:
        async for piece in answers[0]:
            await hand_over(0, piece)
    else:
        await _merge(answers, hand_over)
    # the prompt counts once, as at OpenAI, and with what the first answer found in the KV cache
    completion_tokens = sum(usage.completion_tokens for usage in usages.values())
    return Usage(usages[0].prompt_tokens, completion_tokens, usages[0].cached_tokens)


async def _merge(answers: Sequence[Answer], receiver: Receiver) -> None:
    sender, received = anyio.create_memory_object_stream[tuple[int, Piece]](0)
    try:
        async with anyio.create_task_group() as tasks, received:
            for index, answer in enumerate(answers):
                tasks.start_soon(_forward, index, answer, sender.clone())
            sender.close()
            async for index, piece in received:
                await receiver(index, piece)
    except BaseExceptionGroup as group:
        raise group.exceptions[0] from None  # one sentence is what a client can be told


async def _forward(index: int, answer: Answer, sender: MemoryObjectSendStream[tuple[int, Piece]]) -> None:
    async with sender:
        async for piece in answer:
            await sender.send((index, piece))
