"""Our API under plain uvicorn, in a process of its own, for comparison with Serve."""

import gc
import logging
import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn

from benchmarks.harness import as_nice_as_ray
from benchmarks.stack import KEY, wait_for
from compute.api.app import create_app
from compute.requests.serving import ServedModel, Serving
from compute.settings import Settings
from compute.stack.preflight import free_port

__all__ = ["SERVING", "api_server", "settings"]

SERVING = Serving({"inference": ServedModel("tiny-flux", 16)})


def settings(database_url: str, home: Path) -> Settings:
    return Settings(api_key=KEY, database_url=database_url, home=home)


@contextmanager
def api_server(database_url: str, home: Path) -> Iterator[str]:
    """Run `create_app()` under uvicorn: the same application without Serve."""
    port = free_port()
    process = multiprocessing.get_context("spawn").Process(target=_serve, args=(port, database_url, home), daemon=True)
    process.start()
    url = f"http://127.0.0.1:{port}"
    try:
        if not wait_for(f"{url}/health", process.is_alive):
            raise RuntimeError("uvicorn did not start")
        yield url
    finally:
        process.terminate()
        process.join(10)
        process.kill()
        process.join()


def _serve(port: int, database_url: str, home: Path) -> None:
    as_nice_as_ray()
    logging.basicConfig(level=logging.WARNING)
    app = create_app(settings(database_url, home), SERVING)
    # As Serve does in its replicas.
    gc.collect()
    gc.freeze()
    uvicorn.run(app, port=port, log_level="warning", access_log=False)
