"""A service with one worker, for a test that kills it. Prints the worker's process id once the turn runs."""

import sys
from pathlib import Path

import anyio

sys.path.insert(0, str(Path(__file__).parents[1]))
from cupola.worker.process import open_worker
from echo_specs import chat, echo_spec


async def main(folder: str, prompt: str) -> None:
    async with open_worker(echo_spec(folder)) as worker, anyio.create_task_group() as group:
        group.start_soon(worker.run)
        if prompt:
            turn = await worker.submit(chat(prompt))
            if "hang" not in prompt:
                await turn.mailbox.get()
        print(worker.pid, flush=True)
        await anyio.sleep_forever()


anyio.run(main, *sys.argv[1:])
