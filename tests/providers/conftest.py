"""One stand-in of each vendor, running, and a client."""

from collections.abc import AsyncIterator

import httpx
import pytest

from tests.patience import PATIENCE
from tests.providers.standins.anthropic import Anthropic
from tests.providers.standins.fal import Fal
from tests.providers.standins.fashn import Fashn
from tests.providers.standins.gemini import Gemini
from tests.providers.standins.magnific import Magnific
from tests.providers.standins.ollama import Ollama
from tests.providers.standins.openai import OpenAI
from tests.servers import PLAIN_HTTP


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    """A client that follows no redirect, reads no proxy from the environment, and is patient."""
    async with httpx.AsyncClient(timeout=PATIENCE, trust_env=False, verify=PLAIN_HTTP) as client:
        yield client


@pytest.fixture
async def fal() -> AsyncIterator[Fal]:
    async with Fal() as stand_in:
        yield stand_in


@pytest.fixture
async def fashn() -> AsyncIterator[Fashn]:
    async with Fashn() as stand_in:
        yield stand_in


@pytest.fixture
async def magnific() -> AsyncIterator[Magnific]:
    async with Magnific() as stand_in:
        yield stand_in


@pytest.fixture
async def gemini() -> AsyncIterator[Gemini]:
    async with Gemini() as stand_in:
        yield stand_in


@pytest.fixture
async def openai() -> AsyncIterator[OpenAI]:
    async with OpenAI() as stand_in:
        yield stand_in


@pytest.fixture
async def anthropic() -> AsyncIterator[Anthropic]:
    async with Anthropic() as stand_in:
        yield stand_in


@pytest.fixture
async def ollama() -> AsyncIterator[Ollama]:
    async with Ollama() as stand_in:
        yield stand_in
