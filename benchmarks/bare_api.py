"""HTTP servers to compare Serve with, each in a process of its own: a bare route, and our API under plain uvicorn."""

import logging
import multiprocessing
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import uvicorn
from fastapi import FastAPI

from benchmarks.harness import as_nice_as_ray
from benchmarks.stack import KEY, TASKS, wait_for
from compute.api.app import create_app
from compute.api.serving import ServedModel, Serving
from compute.db.session import Database
from compute.db.tables import Task
from compute.settings import Settings
from compute.stack.preflight import free_port
from compute.tasks import store

__all__ = ["SERVING", "api_server", "bare_server", "settings"]

SERVING = Serving({"inference": ServedModel("tiny-flux", 16)})


def settings(database_url: str, home: Path) -> Settings:
    return Settings(api_key=KEY, database_url=database_url, home=home)


@contextmanager
def api_server(database_url: str, home: Path) -> Iterator[str]:
    """`create_app()` under uvicorn: all that Serve runs, without Serve."""
    with _process(_serve_api, database_url, home) as url:
        yield url


@contextmanager
def bare_server(database_url: str, row: Mapping[str, Any]) -> Iterator[str]:
    """A route that reads JSON and stores `row` as our API would, and does nothing else."""
    with _process(_serve_bare, database_url, dict(row)) as url:
        yield url


def bare_app(database_url: str, row: Mapping[str, Any]) -> FastAPI:
    """The least that accepting a task can be: parse, one transaction with the row and its event, answer."""
    database = Database(database_url)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        yield
        await database.close()

    app = FastAPI(lifespan=lifespan)

    @app.post(TASKS, status_code=201)
    async def create(body: dict[str, Any]) -> dict[str, str]:
        task = Task(id=uuid4(), **row, origin_reference=body["origin_reference"])
        async with database.transaction() as session:
            await store.create(session, task)
        return {"id": str(task.id), "status": task.status}

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    return app


def _serve_api(port: int, database_url: str, home: Path) -> None:
    _serve(create_app(settings(database_url, home), SERVING), port)


def _serve_bare(port: int, database_url: str, row: Mapping[str, Any]) -> None:
    _serve(bare_app(database_url, row), port)


def _serve(app: FastAPI, port: int) -> None:
    as_nice_as_ray()
    logging.basicConfig(level=logging.WARNING)
    uvicorn.run(app, port=port, log_level="warning", access_log=False)


@contextmanager
def _process(target: Any, *arguments: Any) -> Iterator[str]:
    port = free_port()
    process = multiprocessing.get_context("spawn").Process(target=target, args=(port, *arguments), daemon=True)
    process.start()
    url = f"http://127.0.0.1:{port}"
    try:
        if not wait_for(f"{url}/health", process.is_alive):
            raise RuntimeError(f"{target.__name__} did not start")
        yield url
    finally:
        process.terminate()
        process.join(10)
        process.kill()
        process.join()
