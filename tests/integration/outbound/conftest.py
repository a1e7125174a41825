"""Guarded clients, and servers that remember what they were asked."""

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from aiohttp import web

from compute.outbound.client import GuardedClient

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Serve = Callable[[Handler], Awaitable[str]]
Connect = Callable[..., GuardedClient]


@pytest.fixture
async def connect() -> AsyncIterator[Connect]:
    """Make clients that are closed in the end."""
    clients: list[GuardedClient] = []

    def make(*allowed: str, timeout: float = 5.0) -> GuardedClient:
        clients.append(GuardedClient(allowed, timeout))
        return clients[-1]

    yield make
    for client in clients:
        await client.close()


class Site:
    """A server's handler that remembers what it was asked."""

    def __init__(self, answer: Callable[[web.Request], web.StreamResponse]) -> None:
        self.answer = answer
        self.requests: list[web.Request] = []

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request)
        return self.answer(request)
