"""The server for tests is held to the truth: what a program sees of it, it sees of the real one."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from compute.client import APIError, Compute, EndedBadly, Task
from compute.testing import Completes, ComputeServer, Hangs
from tests.integration.api.conftest import KEY, Painter
from tests.integration.rows import UNKNOWN
from tests.patience import PATIENCE
from tests.pictures import size_of

SMALL: dict[str, Any] = {"width": 64, "height": 64, "steps": 2}
GIVEN_BY_SERVERS = {"config", "metadata", "executor_type", "executor_instance"}


def refusal(act: Callable[[], object]) -> tuple[Any, ...]:
    """How a call is refused."""
    with pytest.raises(APIError) as refused:
        act()
    error = refused.value
    return type(error).__name__, error.status, error.code, sorted(fault.field for fault in error.faults)


def shown(task: Task) -> dict[str, Any]:
    """What both servers must say alike of a task."""
    names = (
        "task_type",
        "status",
        "progress",
        "prompt",
        "seed",
        "width",
        "height",
        "error_category",
        "origin_reference",
    )
    return {name: getattr(task, name, None) for name in names}


def sequence(client: Compute, task: Task, after: str | None = None) -> tuple[list[str], list[Any], list[str]]:
    """Statuses of a stream in order, and its last event; progress comes as often as it likes."""
    events = list(client.tasks.events(task, after=after, timeout=PATIENCE))
    assert all(event.id for event in events)
    statuses = [str(event.status) for event in events if event.name != "progress"]
    return statuses, [event.name for event in events][-1:], [str(event.id) for event in events]


def use(client: Compute, folder: Path) -> dict[str, Any]:
    """Do what programs do, and note what comes of it."""
    seen: dict[str, Any] = {}
    task = client.tasks.submit(prompt="a dress", seed=3, origin_reference="order-17", **SMALL)
    seen["created"] = shown(task) | {"status": None}
    ended = client.tasks.wait(task, timeout=PATIENCE)
    seen["ended"] = shown(ended)
    seen["files"] = [size_of(file) for file in client.tasks.download(ended, folder)]
    seen["paths"] = [path.split("/")[0] for path in ended.paths]
    seen["links"] = len(ended.urls)
    statuses, last, ids = sequence(client, ended)
    seen["stream of what has ended"] = (statuses, last)
    seen["behind the end"] = sequence(client, ended, ids[-1])
    held = client.tasks.submit(prompt="slow", **SMALL)
    first = next(iter(client.tasks.events(held, timeout=PATIENCE)))
    seen["first event"] = (first.name, sorted(first.data))
    cancelled = client.tasks.cancel(held)
    seen["cancelled"] = (shown(cancelled)["status"], refusal(lambda: client.tasks.cancel(held)))
    statuses, last, _ = sequence(client, held, first.id)
    seen["stream behind the first"] = (statuses[-1:], last)
    with pytest.raises(EndedBadly) as bad:
        client.tasks.wait(held)
    seen["ended badly"] = bad.value.category
    keyed = [client.tasks.submit(prompt="a hat", idempotency_key="order-18", **SMALL).id for _ in range(2)]
    seen["one key"] = len(set(keyed))
    seen["another body"] = refusal(
        lambda: client.tasks.submit(prompt="another hat", idempotency_key="order-18", **SMALL)
    )[:3]
    seen["bulk"] = [one.prompt for one in client.tasks.submit_all([{"prompt": "one"}, {"prompt": "two"}])]
    seen["listed"] = len(list(client.tasks.list()))
    seen["unknown task"] = refusal(lambda: client.tasks.get(UNKNOWN))
    seen["malformed id"] = refusal(lambda: client.tasks.get("seventeen"))
    seen["no prompt"] = refusal(lambda: client.tasks.submit("GENERATION", {}))
    seen["no size"] = refusal(lambda: client.tasks.submit("GENERATION", {"prompt": "x", "width": -1}))
    seen["unknown field"] = refusal(lambda: client.tasks.submit("GENERATION", {"prompt": "x", "promt": "y"}))
    seen["unknown type"] = refusal(lambda: client.tasks.submit("DREAMING", {"prompt": "x"}))
    seen["position of nobody"] = refusal(lambda: list(client.tasks.events(ended, after="999999999-0-0-0")))
    stored = client.files.upload(folder / f"{ended.id}-0.png")
    seen["stored"] = (stored.width, stored.height, stored.content_type, stored.path.split("/")[0])
    seen["fetched"] = client.files.download(stored.url, folder / "copy.png").read_bytes()[:8]
    client.files.delete(stored.path)
    seen["missing"] = refusal(lambda: client.files.download(stored.path, folder / "copy.png"))
    client.tasks.delete(held)
    seen["removed"] = refusal(lambda: client.tasks.get(held))
    return seen


async def test_a_program_cannot_tell_them_apart(base_url: str, worker: Painter, tmp_path: Path) -> None:
    worker.held.add("slow")
    with Compute(base_url, KEY) as client:
        real = await asyncio.to_thread(use, client, tmp_path / "real")
    with ComputeServer() as server, Compute(server.url, server.key) as client:
        server.outcomes += [Completes(), Hangs()]
        pretended = await asyncio.to_thread(use, client, tmp_path / "pretended")
    assert pretended == real


async def test_a_task_has_the_fields_that_the_real_one_has(base_url: str, worker: Painter) -> None:
    def fields(url: str, key: str) -> dict[str, type]:
        with Compute(url, key) as client:
            task = client.tasks.run(prompt="a dress", seed=3, width=64, height=64, steps=1)
            found = client.request("GET", f"/tasks/{task.id}")
            return {name: type(value) for name, value in found.items() if name not in GIVEN_BY_SERVERS}

    real = await asyncio.to_thread(fields, base_url, KEY)
    with ComputeServer() as server:
        pretended = await asyncio.to_thread(fields, server.url, server.key)
    strange = {name: kind for name, kind in pretended.items() if kind is not real.get(name)}
    assert strange == {}
