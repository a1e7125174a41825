"""The worst body of each route leaves the event loop to others."""

import asyncio
import base64
import io
import json
import multiprocessing
import random
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import httpx
import psycopg
import pytest
from PIL import Image
from sqlalchemy.engine import URL

from tests.declared import check_response_async
from tests.integration.api.bodies.held_loop import Watched, watch, watched_api
from tests.integration.api.conftest import KEY
from tests.patience import PATIENCE

MOST_SECONDS = 0.2
"""For which nobody else is answered, on a machine that needs less for this:"""
WORK = range(15_000_000)
MIB = 2**20
BODY = 47 * MIB
NOISE = random.Random(1).randbytes(31 * MIB)

Body = Callable[[], bytes]


def filled(start: str, item: str, end: str, size: int = BODY) -> bytes:
    """A body of about that size: `item` again and again, between commas."""
    count = (size - len(start) - len(end)) // (len(item) + 1)
    return (start + ",".join([item] * count) + end).encode()


def noise_png(side: int = 3200) -> bytes:
    """A picture that does not compress: near the largest file that is accepted."""
    buffer = io.BytesIO()
    Image.frombytes("RGB", (side, side), random.Random(2).randbytes(side * side * 3)).save(
        buffer, "PNG", compress_level=1
    )
    assert len(buffer.getvalue()) < 32 * MIB
    return buffer.getvalue()


def quoted(text: str) -> str:
    return json.dumps(text)


def keys(count: int) -> str:
    return ",".join(f'"k{number}":{number}' for number in range(count))


def task(**fields: Any) -> bytes:
    return json.dumps({"prompt": "a hat", "width": 64, "height": 64, "steps": 1} | fields).encode()


def bulk(count: int, **fields: Any) -> bytes:
    return json.dumps({"tasks": [{"type": "generation", "prompt": "a hat"} | fields for _ in range(count)]}).encode()


def chain(count: int, mappings: int = 1) -> bytes:
    """A workflow in which every step waits for those before it."""
    steps: list[dict[str, Any]] = [{"id": "s0", "task_type": "GENERATION", "config": {"prompt": "x" * 2000}}]
    for number in range(1, count):
        sources = [f"s{max(number - 1 - back, 0)}" for back in range(mappings)]
        steps.append(
            {
                "id": f"s{number}",
                "task_type": "REFINE",
                "depends_on": [f"s{before}" for before in range(number)],
                "input_mappings": [
                    {"from_step": source, "from_field": "result_image_paths", "to_field": "base_image_url"}
                    for source in dict.fromkeys(sources)
                ],
            }
        )
    return json.dumps({"name": "w", "origin_instance": "x", "steps": steps}).encode()


def faulty(count: int) -> bytes:
    steps = [
        {"id": f"s{number}", "task_type": "GENERATION", "config": {"width": -1, "x": 1}} for number in range(count)
    ]
    return json.dumps({"name": "w", "origin_instance": "x", "steps": steps}).encode()


def with_input(picture: str) -> bytes:
    mapping = {"from_step": "$input", "from_field": "picture", "to_field": "base_image_url"}
    steps = [{"id": "a", "task_type": "REFINE", "depends_on": [], "input_mappings": [mapping]}]
    return json.dumps({"name": "w", "steps": steps, "input": {"picture": picture}}).encode()


def training(**fields: Any) -> bytes:
    return json.dumps({"trigger_word": "zx"} | fields).encode()


TREES: dict[str, Body] = {
    "empty lists": lambda: filled('{"prompt":"x","config":{"a":[', "[]", "]}}"),
    "numbers": lambda: filled('{"prompt":"x","config":{"a":[', "1", "]}}"),
    "objects": lambda: filled('{"prompt":"x","config":{"a":[', '{"a":{}}', "]}}"),
    "depth": lambda: b'{"prompt":"x","config":' + b"[" * (BODY // 2) + b"]" * (BODY // 2) + b"}",
    "one string": lambda: ('{"prompt":"x","config":{"a":' + quoted("a" * BODY) + "}}").encode(),
    "escapes": lambda: b'{"prompt":"x","config":{"a":"' + b"\\u00e9" * (BODY // 6) + b'"}}',
    "spaces": lambda: b'{"prompt":"x"' + b" " * BODY + b"}",
    "long prompt": lambda: task(prompt="a" * BODY),
    "long number": lambda: b'{"prompt":"x","config":{"a":' + b"9" * 4_000_000 + b"}}",
    "50,000 numbers": lambda: filled('{"prompt":"x","config":{"a":[', "1", "]}}", 100_000),
}
INLINE: dict[str, Body] = {
    "noise": lambda: task(reference_image_url=base64.b64encode(NOISE).decode()),
    "picture": lambda: task(reference_image_url=base64.b64encode(noise_png()).decode()),
    "spaces": lambda: task(reference_image_url="A " * (20 * MIB)),
    "percent": lambda: task(reference_image_url="data:image/png," + "%41" * (15 * MIB)),
    "no base64": lambda: task(reference_image_url="a" * (40 * MIB) + "!"),
    "a path": lambda: task(reference_image_url="a/" * (20 * MIB) + ".png"),
}
BODIES: dict[str, tuple[str, str, Body]] = {
    **{f"tasks: {name}": ("POST", "/tasks/", body) for name, body in TREES.items()},
    **{f"generation: {name}": ("POST", "/tasks/generation", body) for name, body in INLINE.items()},
    "bulk: long prompts": ("POST", "/tasks/bulk", lambda: bulk(1000, prompt="a" * 10_000)),
    "bulk: faults": ("POST", "/tasks/bulk", lambda: bulk(1000, width=-1, nothing=1)),
    "bulk: config": ("POST", "/tasks/bulk", lambda: bulk(1000, config={"a": [0] * 40})),
    "workflow: a long chain": ("POST", "/workflows/", lambda: chain(500)),
    "workflow: mappings": ("POST", "/workflows/", lambda: chain(500, 20)),
    "workflow: a picture": ("POST", "/workflows/", lambda: with_input("A" * 7_900_000)),
    "workflow: too large a picture": ("POST", "/workflows/", lambda: with_input("A" * (40 * MIB))),
    "workflow: too many": ("POST", "/workflows/", lambda: filled('{"name":"w","steps":[', '{"id":"a"}', "]}")),
    "training: paths": (
        "POST",
        "/training/",
        lambda: training(source_images=[f"uploads/{number}.png" for number in range(5000)]),
    ),
    "training: spaces": ("POST", "/training/", lambda: training(source_images=["a" * 300 + " " * 100_000 + "!"] * 100)),
    "training: inline": ("POST", "/training/", lambda: training(source_images=["A" * (9 * MIB)] * 5)),
    "training: hosts": (
        "POST",
        "/training/",
        lambda: training(source_images=[f"http://127.0.0.1:{number + 1}/x" for number in range(5000)]),
    ),
    "start": (
        "POST",
        "/workflows/00000000-0000-4000-8000-000000000000/start",
        lambda: filled('{"input":{"a":[', "[]", "]}}"),
    ),
    "update": ("PUT", "/tasks/00000000-0000-4000-8000-000000000000", lambda: filled('{"config":{"a":[', "{}", "]}}")),
}


FORMS: dict[str, tuple[str, Callable[[], dict[str, Any]]]] = {
    "picture": ("/storage/images", lambda: {"files": {"file": ("a.png", noise_png())}}),
    "noise": ("/storage/images", lambda: {"files": {"file": ("a.png", NOISE)}}),
    "many parts": ("/storage/images", lambda: {"files": [(f"f{number}", (None, "x")) for number in range(20_000)]}),
}


@pytest.fixture(scope="module")
def server(postgres: URL, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    name = f"test_{uuid4().hex}"
    admin = postgres.set(drivername="postgresql").render_as_string(hide_password=False)
    settings = {
        "api_key": KEY,
        "database_url": postgres.set(database=name).render_as_string(hide_password=False),
        "home": Path(tmp_path_factory.mktemp("held")),
        "media_allowed_hosts": "127.0.0.1",
        "storage": "local",
    }
    with psycopg.connect(admin, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        with watched_api(settings) as running:
            yield running
        connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture
async def client(server: Watched) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(
        base_url=f"{server.url}/api/v1",
        headers={"Authorization": f"Bearer {KEY}"},
        timeout=PATIENCE,
        event_hooks={"response": [check_response_async]},
    ) as client:
        yield client


@pytest.fixture(scope="module")
def most_seconds() -> float:
    """For how long this machine may leave the others unanswered."""

    def work() -> float:
        began = time.process_time()
        sum(WORK)
        return time.process_time() - began

    return max(MOST_SECONDS, *(work() for _ in range(3)))


async def held_by(server: Watched, client: httpx.AsyncClient, *request: Any, **options: Any) -> tuple[int, float]:
    """The status of the answer, and how long the loop was held by it while another client asked for its health."""
    healthy = 0

    async def ask() -> None:
        nonlocal healthy
        async with httpx.AsyncClient(base_url=server.url, timeout=PATIENCE) as other:
            while True:
                healthy += (await other.get("/health")).status_code == 200
                await asyncio.sleep(0.05)

    asking = asyncio.create_task(ask())
    server.reset()
    try:
        answer = await client.request(*request, **options)
    except (httpx.WriteError, httpx.ReadError):
        # Refused before all of it was sent.
        status = 413
    else:
        status = answer.status_code
    # What came after the answer counts, too.
    await asyncio.sleep(0.1)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    return status, server.held


@pytest.mark.parametrize("name", BODIES)
async def test_no_body_holds_the_loop(
    server: Watched, client: httpx.AsyncClient, name: str, most_seconds: float
) -> None:
    method, path, body = BODIES[name]
    headers = {"Content-Type": "application/json"}
    if method == "POST":
        # Its fingerprint is part of the work.
        headers["Idempotency-Key"] = quote(name)
    status, held = await held_by(server, client, method, path, content=body(), headers=headers)
    assert status < 500
    assert held < most_seconds


@pytest.mark.parametrize("name", FORMS)
async def test_no_form_holds_the_loop(
    server: Watched, client: httpx.AsyncClient, name: str, most_seconds: float
) -> None:
    path, form = FORMS[name]
    status, held = await held_by(server, client, "POST", path, **form())
    assert status < 500
    assert held < most_seconds


async def test_a_thread_that_keeps_the_interpreter_to_itself_is_noticed() -> None:
    worst = multiprocessing.Value("d", 0.0)
    watching = asyncio.create_task(watch(worst))
    await asyncio.sleep(0.05)
    # One call, between whose steps no other thread has its turn.
    await asyncio.to_thread(sum, range(100_000_000))
    await asyncio.sleep(0.05)
    watching.cancel()
    assert worst.value > MOST_SECONDS
