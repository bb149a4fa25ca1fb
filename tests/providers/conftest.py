"""Models run in these tests as they do in workers: with the switches that the CPU provider sets for those."""

import os

import pytest

from cupola_providers.cpu import CpuOptions, CpuProvider


@pytest.fixture(scope="session", autouse=True)
def _switches_of_a_worker():
    """With flash attention, logits may change by a bit with the way a prompt is cut."""
    os.environ |= CpuProvider().environment(CpuOptions())
