"""What every test may use."""

import pytest


@pytest.fixture
def anyio_backend():
    """Run async tests on asyncio; modules of the core that run on trio as well say so themselves."""
    return "asyncio"
