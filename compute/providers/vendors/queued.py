"""Calls to vendors with a queue, as providers make them."""

import asyncio
from collections.abc import Awaitable, Sequence
from typing import Any, TypeVar

from compute.errors import CallUncertain, ProviderFailed
from compute.providers.base import Assignment
from compute.providers.calls.call import Collected
from compute.providers.calls.outcomes import Accepted
from compute.providers.calls.protocol import QueueProtocol

__all__ = ["REQUEST_ID", "all_of", "queued"]

T = TypeVar("T")

REQUEST_ID = r"^[A-Za-z0-9_-]{1,128}$"
"""The pattern of a request's id at a vendor."""


async def queued(
    assignment: Assignment[Any],
    part: str,
    protocol: QueueProtocol,
    body: Any,
    *,
    followed: str | None = None,
    wait: float | None = None,
    poll: float | None = None,
) -> Collected:
    """Have a vendor's queue do a part of a task. With `followed`, the id of a request that was submitted earlier, that
    is waited for and nothing is submitted.

    Raises:
        ProviderFailed, CallUncertain, LeaseLost: as `JobCalls.queued`.
    """
    return await assignment.calls.queued(
        part,
        protocol,
        {"followed": followed} if followed else body,
        known=Accepted(followed) if followed else None,
        progress=assignment.context.progress,
        wait=wait,
        poll=poll,
    )


async def all_of(calls: Sequence[Awaitable[T]]) -> list[T]:
    """The results of calls that are under way together. None of them is left behind when another fails.

    Raises:
        ProviderFailed: one of them failed; an uncertain one counts before others, because the task waits for it.
    """
    done = await asyncio.gather(*calls, return_exceptions=True)
    failures = [one for one in done if isinstance(one, BaseException)]
    for kind in (CallUncertain, ProviderFailed, BaseException):
        for failure in failures:
            if isinstance(failure, kind):
                raise failure
    return [one for one in done if not isinstance(one, BaseException)]
