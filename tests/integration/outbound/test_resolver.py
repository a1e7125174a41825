"""Addresses of names, and the cost of names that hang. Nothing is connected to."""

import asyncio
import socket
import threading

import pytest
from aiohttp.abc import ResolveResult

from compute.outbound.addresses import AllowedHosts
from compute.outbound.resolver import GuardedResolver, NotPublicError
from tests.patience import NEVER, PATIENCE


async def test_names_whose_servers_hang_hold_up_no_other() -> None:
    """A user chooses the names, and with them the servers that are asked. Each name is asked for once at a time."""
    answered = threading.Event()
    asked: list[str] = []

    def look_up(host: str, port: int, family: socket.AddressFamily) -> list[ResolveResult]:
        asked.append(host)
        if host.startswith("hangs"):
            answered.wait(NEVER)
        return [ResolveResult(hostname=host, host="8.8.8.8", port=port, family=family, proto=0, flags=0)]

    resolver = GuardedResolver(AllowedHosts([]), look_up)
    names = [f"hangs-{number}.example" for number in range(200)]
    hanging = [asyncio.create_task(resolver.resolve(name)) for name in names * 3]
    try:
        async with asyncio.timeout(PATIENCE):
            assert [one["host"] for one in await resolver.resolve("answers.example")] == ["8.8.8.8"]
        assert not any(one.done() for one in hanging)
        hanging.pop().cancel()
    finally:
        answered.set()
        await asyncio.gather(*hanging)
        await resolver.close()
    assert sorted(asked) == sorted([*names, "answers.example"])


async def test_the_resolver_answers_only_what_may_be_connected_to() -> None:
    guarded = GuardedResolver(AllowedHosts(["localhost:9000"]))
    with pytest.raises(NotPublicError):
        await guarded.resolve("localhost", 80, socket.AF_UNSPEC)
    answers = await guarded.resolve("localhost", 9000, socket.AF_UNSPEC)
    assert {answer["host"] for answer in answers} <= {"127.0.0.1", "::1"}
    assert [answer["host"] for answer in await guarded.resolve("8.8.8.8", 80)] == ["8.8.8.8"]
    await guarded.close()
