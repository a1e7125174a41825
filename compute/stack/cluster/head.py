"""Runs a Ray cluster of one machine with the Serve applications on it, by `ray start` and the REST API of Ray's
dashboard.

This process does not import Ray. Everything used here is documented, except for the option `--no-monitor`.
"""

import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil

from compute.stack.cluster.front_door import LOOPBACK
from compute.stack.cluster.keeper import STARTED
from compute.stack.messages.failures import cause
from compute.stack.preflight import free_port

__all__ = ["Deployments", "RayFailed", "RayHead"]

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108
MIN_OBJECT_STORE = 100 * 2**20
MAX_OBJECT_STORE = 8 * 2**30

DEPLOY_SECONDS = 300.0
STATUS_SECONDS = 30.0
POLL_SECONDS = 0.1
KEEPER_SECONDS = 30.0

# The code of the script `ray` of this installation.
_RAY = "from importlib.metadata import distribution as d; d('ray').entry_points['ray'].load()()"


class RayFailed(Exception):
    """Ray or Serve failed; the message gives the reason."""


@dataclass(frozen=True, slots=True)
class Deployments:
    """The state of the applications: `failed` is a reason to give up, `waiting` one to wait."""

    failed: str | None
    waiting: str


class RayHead:
    """The head node, with its sessions and sockets in `folder`."""

    def __init__(self, folder: Path, dashboard_port: int) -> None:
        self._folder = folder
        self._dashboard_port = dashboard_port
        self._keeper: subprocess.Popen[str] | None = None
        self._deployed: Mapping[str, Any] | None = None

    @property
    def logs(self) -> Path:
        """The folder of the logs of Ray's processes."""
        return (self._folder / "session_latest").resolve() / "logs"

    def start(self) -> None:
        """Launch Ray; returns at once."""
        command = [sys.executable, "-m", "compute.stack.cluster.keeper", "--parent", str(os.getpid())]
        command += ["--log", str(self._log), "--", sys.executable, "-c", _RAY, *self._options()]
        self._keeper = subprocess.Popen(  # noqa: S603
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            # Ctrl-C goes to the whole foreground group; Ray has to outlive the requests in flight.
            start_new_session=True,
        )

    def wait(self) -> None:
        """Return once Ray runs.

        Raises:
            RayFailed: it does not.
        """
        if self._said() != STARTED:
            raise RayFailed(self._log.read_text(errors="replace") if self._log.is_file() else "it was not launched")

    def deploy(self, config: Mapping[str, Any]) -> None:
        """Start Serve and deploy the applications, given as in serve_config.yaml; returns before they run.

        Raises:
            RayFailed: it refuses them.
        """
        try:
            answer = self._serve("PUT", DEPLOY_SECONDS, config)
        except httpx.HTTPError as error:
            raise RayFailed(f"{type(error).__name__}: {error}") from error
        if answer.status_code != httpx.codes.OK:
            raise RayFailed(answer.text)
        self._deployed = config

    def deployments(self) -> Deployments:
        """Return the state of the applications."""
        if dead := self.dead():
            return Deployments(f"Ray's {dead} has died", "")
        try:
            applications = self._applications()
        except httpx.HTTPError:
            return Deployments(None, "Ray's dashboard")
        failed, waiting = [], []
        for name, application in applications.items():
            deployments = application["deployments"]
            if application["status"] in ("DEPLOY_FAILED", "UNHEALTHY"):
                broken = [found["message"] for found in deployments.values() if found["status"] == "DEPLOY_FAILED"]
                failed.append(f"{name}: {cause(next(filter(None, broken), application['message']))}")
            waiting += [deployment for deployment, found in deployments.items() if found["status"] != "HEALTHY"]
        return Deployments("; ".join(failed) or None, ", ".join(waiting))

    def dead(self) -> str | None:
        """Return the name of a process of Ray's own that has ended, if there is one."""
        if self._keeper is None or self._keeper.poll() is None:
            return None
        return self._said() or "keeper"

    def stop(self, serve_seconds: float = 15.0) -> None:
        """Let the replicas finish for `serve_seconds`, then end every process of this cluster and no other."""
        if self._keeper is None:
            return
        if self._deployed is not None and self.dead() is None:
            # The cluster may end meanwhile.
            with contextlib.suppress(httpx.HTTPError):
                self._drain(self._deployed, time.monotonic() + serve_seconds)
        self._keeper.terminate()
        try:
            self._keeper.wait(KEEPER_SECONDS)
        except subprocess.TimeoutExpired:
            self._keeper.kill()
            self._keeper.wait()

    def _drain(self, config: Mapping[str, Any], deadline: float) -> None:
        self._serve("PUT", max(deadline - time.monotonic(), 0.0), {**config, "applications": []})
        while self._applications() and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)

    def _applications(self) -> dict[str, Any]:
        answer = self._serve("GET", STATUS_SECONDS).raise_for_status()
        applications: dict[str, Any] = answer.json()["applications"]
        return applications

    def _serve(self, method: str, seconds: float, body: Mapping[str, Any] | None = None) -> httpx.Response:
        token = os.environ.get("RAY_AUTH_TOKEN_PATH")
        headers = {"Authorization": f"Bearer {Path(token).read_text().strip()}"} if token else {}
        with httpx.Client(timeout=seconds, trust_env=False, headers=headers) as client:
            return client.request(
                method, f"http://{LOOPBACK}:{self._dashboard_port}/api/serve/applications/", json=body
            )

    def _said(self) -> str:
        """The keeper's next line; none if it has ended."""
        if self._keeper is None or self._keeper.stdout is None:
            return ""
        return self._keeper.stdout.readline().strip()

    @property
    def _log(self) -> Path:
        return self._folder.parent / "ray_start.out"

    def _options(self) -> list[str]:
        return [
            "start",
            "--head",
            f"--node-ip-address={LOOPBACK}",
            "--port=0",
            f"--temp-dir={self._folder}",
            "--include-dashboard=true",
            f"--dashboard-host={LOOPBACK}",
            f"--dashboard-port={self._dashboard_port}",
            # Both have a fixed default, on which two clusters of one machine would collide.
            f"--dashboard-agent-listen-port={free_port()}",
            f"--ray-client-server-port={free_port()}",
            # Any free ports for workers: by default Ray keeps 10002 to 19999 to itself, and refuses a dashboard there.
            "--min-worker-port=0",
            "--max-worker-port=0",
            f"--object-store-memory={object_store_bytes()}",
            # The autoscaler's monitor: one machine cannot grow.
            "--no-monitor",
            # The log monitor copies workers' output to drivers, which costs a hundredth of a core; the
            # logs are files anyway.
            "--include-log-monitor=false",
            "--disable-usage-stats",
        ]


def object_store_bytes() -> int:
    """Size of Ray's object store: a tenth of the memory, within the limits of /dev/shm."""
    wanted = min(max(psutil.virtual_memory().total // 10, MIN_OBJECT_STORE), MAX_OBJECT_STORE)
    if SHARED_MEMORY.is_dir():
        wanted = min(wanted, max(int(shutil.disk_usage(SHARED_MEMORY).free * 0.8), MIN_OBJECT_STORE))
    return wanted
