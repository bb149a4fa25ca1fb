"""A real server with the OpenAI front-end over a scripted engine, and clients for it."""

import httpx
import pytest
from openai import AsyncOpenAI

from cupola_server.app import compose
from cupola_server.openai import OpenAIFrontend
from server.fake_engine import FakeEngine, running


@pytest.fixture
async def engine():
    return FakeEngine()


@pytest.fixture
async def url(engine):
    async with running(compose([OpenAIFrontend()], engine)) as url:
        yield url


@pytest.fixture
async def client(url):
    async with AsyncOpenAI(base_url=f"{url}/v1", api_key="unused", max_retries=0, timeout=20) as client:
        yield client


@pytest.fixture
async def http(url):
    async with httpx.AsyncClient(base_url=url, timeout=20) as http:
        yield http
