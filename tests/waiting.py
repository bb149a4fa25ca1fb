"""Wait for what cannot be awaited: something another process or the system does."""

import anyio


async def until(condition, within_s=5.0):
    """Look again every 10 ms until the condition holds; a TimeoutError if it never does."""
    with anyio.fail_after(within_s):
        while not condition():  # noqa: ASYNC110 - there is no event to wait for
            await anyio.sleep(0.01)
