"""Waits until the stack would run a task at once."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import httpx

from compute.stack.errors import StackError
from compute.stack.messages.steps import Step

if TYPE_CHECKING:
    from compute.stack.cluster.head import Deployments

__all__ = ["readiness", "wait_until_ready"]

POLL_SECONDS = 0.5


def wait_until_ready(url: str, deployments: "Callable[[], Deployments]", step: Step, timeout_seconds: float) -> None:
    """Poll `/health?ready=1` until it answers 200, and show the missing parts meanwhile.

    Raises:
        StackError: a deployment failed, or the time is up.
    """
    deadline = time.monotonic() + timeout_seconds
    with httpx.Client(timeout=10.0, trust_env=False) as client:
        while (missing := readiness(client, url)) is not None:
            state = deployments()
            if state.failed:
                raise StackError(f"deployment failed: {state.failed}")
            if time.monotonic() > deadline:
                raise StackError(f"not ready after {timeout_seconds:.0f} s: {missing}")
            step.note(f"waiting for {state.waiting or missing}")
            time.sleep(POLL_SECONDS)


def readiness(client: httpx.Client, url: str) -> str | None:
    """Return the parts that keep the stack at `url` from being ready; None when it is."""
    try:
        response = client.get(f"{url}/health", params={"ready": "1"})
    except httpx.HTTPError:
        return "the HTTP server"
    if response.status_code == httpx.codes.OK:
        return None
    try:
        body: Any = response.json()
    except ValueError:
        return "the application"
    checks = body.get("checks") if isinstance(body, dict) else None
    if not isinstance(checks, dict):
        return "the application"
    return ", ".join(f"{name} ({verdict})" for name, verdict in checks.items() if verdict != "ok")
