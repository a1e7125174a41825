"""The whole system as users start it, with `compute up`, on free ports and a given database."""

import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import yaml

from benchmarks.harness import say
from compute.stack.cluster.runtime import runtime_folder
from compute.stack.preflight import free_port

__all__ = ["KEY", "TASKS", "running_stack", "wait_for"]

KEY = "benchmark-key-long-enough"
TASKS = "/api/v1/tasks/"

_CONFIG = Path(__file__).parent.parent / "serve_config.yaml"
_START_SECONDS = 300.0
_STOP_SECONDS = 90.0


@contextmanager
def running_stack(
    home: Path,
    database_url: str,
    pools: Sequence[Mapping[str, Any]],
    *,
    environment: Mapping[str, str],
    ready: bool = True,
    args: Mapping[str, Mapping[str, Any]] | None = None,
) -> Iterator[str]:
    """Yield the base address of a stack with serve_config.yaml's settings except for its pools, and for those of its
    `args` that are named.

    With `ready` it yields once a task would run at once, without as soon as the API answers.

    Raises:
        RuntimeError: it did not start; with the end of its log.
    """
    home.mkdir(exist_ok=True)
    port = free_port()
    log = home / "stack.log"
    variables = {
        "COMPUTE_HOME": str(home),
        "COMPUTE_HTTP_PORT": str(port),
        "COMPUTE_DASHBOARD_PORT": str(free_port()),
        "COMPUTE_READY_TIMEOUT_SECONDS": "86400",
        "API_KEY": KEY,
        "DATABASE_URL": database_url,
    }
    command = [sys.executable, "-m", "compute.cli", "up", "--config", str(_write_config(home, pools, args or {}))]
    env = {**os.environ, **variables, **environment}
    with log.open("wb") as output:
        # In a session of its own, so that Ctrl-C does not reach it: the stack is stopped below, in order.
        process = subprocess.Popen(command, env=env, stdout=output, stderr=output, start_new_session=True)  # noqa: S603
    keep_logs = False
    try:
        say("  starting Ray and Serve")
        if not wait_for(f"http://127.0.0.1:{port}/health{'?ready=1' if ready else ''}", lambda: process.poll() is None):
            keep_logs = True
            raise RuntimeError(f"the stack did not start:\n{log.read_text(errors='replace')[-3000:]}")
        yield f"http://127.0.0.1:{port}"
    finally:
        _stop(process, env)
        if not keep_logs:
            shutil.rmtree(runtime_folder(home), ignore_errors=True)


def wait_for(url: str, alive: Callable[[], bool]) -> bool:
    """Return whether `url` answers 200 before its server ends or the time is up."""
    deadline = time.monotonic() + _START_SECONDS
    with httpx.Client(timeout=10, trust_env=False) as client:
        while alive() and time.monotonic() < deadline:
            with contextlib.suppress(httpx.TransportError):
                if client.get(url).status_code == httpx.codes.OK:
                    return True
            time.sleep(0.2)
    return False


def _write_config(home: Path, pools: Sequence[Mapping[str, Any]], args: Mapping[str, Mapping[str, Any]]) -> Path:
    config = yaml.safe_load(_CONFIG.read_text())
    config["http_options"]["host"] = "127.0.0.1"
    given = config["applications"][0]["args"]
    given["pools"] = [dict(pool) for pool in pools]
    for name, values in args.items():
        given[name] = given[name] | dict(values)
    path = home / "serve_config.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def _stop(process: subprocess.Popen[bytes], env: Mapping[str, str]) -> None:
    process.terminate()
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    # After an orderly stop nothing is left; otherwise end the rest.
    subprocess.run([sys.executable, "-m", "compute.cli", "down"], env=env, check=False, stdout=subprocess.DEVNULL)
