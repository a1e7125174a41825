"""A Ray cluster of one machine with the Serve applications on it, all owned by this process.

Import this only after `tune_ray`: Ray reads its environment when it is imported.
"""

import contextlib
import logging
import os
import shutil
import threading
from dataclasses import dataclass
from pathlib import Path

import psutil
import ray
from ray import serve
from ray._private.authentication.authentication_token_setup import ensure_token_if_auth_enabled
from ray._private.node import Node
from ray._private.parameter import RayParams
from ray._private.utils import write_ray_address
from ray.exceptions import RayError
from ray.serve._private.api import serve_start
from ray.serve._private.client import ServeControllerClient
from ray.serve.schema import ServeDeploySchema

from compute.stack.cluster.front_door import LOOPBACK
from compute.stack.messages.failures import cause
from compute.stack.preflight import free_port

__all__ = ["Deployments", "RayHead"]

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108
MIN_OBJECT_STORE = 100 * 2**20
MAX_OBJECT_STORE = 8 * 2**30


@dataclass(frozen=True, slots=True)
class Deployments:
    """What Serve says of the applications: `failed` is a reason to give up, `waiting` one to wait."""

    failed: str | None
    waiting: str


class RayHead:
    """The head node. Serve is driven by the same calls that `serve run` makes."""

    def __init__(self, folder: Path, dashboard_port: int) -> None:
        """Start Ray with its sessions and sockets in `folder`."""
        # `ray.init` would fix the port of the dashboard's agent, on which two clusters of one machine would meet.
        os.environ.setdefault("RAY_AUTH_MODE", "token")
        ensure_token_if_auth_enabled(None, create_token_if_missing=True)
        logging.getLogger("ray.serve").setLevel(logging.WARNING)
        self._node = Node(
            RayParams(
                node_ip_address=LOOPBACK,
                temp_dir=str(folder),
                include_dashboard=True,
                dashboard_host=LOOPBACK,
                dashboard_port=dashboard_port,
                dashboard_agent_listen_port=free_port(),
                object_store_memory=object_store_bytes(),
                min_worker_port=0,
                max_worker_port=0,
                # The autoscaler's monitor: one machine cannot grow.
                no_monitor=True,
                # It copies workers' output to drivers, at a hundredth of a core for ever; the logs are files anyway.
                include_log_monitor=False,
            ),
            head=True,
            shutdown_at_exit=False,
            spawn_reaper=True,
        )
        # Where Ray looks for the cluster of a job; without it a job may join any other cluster of this machine.
        write_ray_address(self._node.address, str(folder))
        self.logs = Path(self._node.get_logs_dir_path())
        self._client: ServeControllerClient | None = None
        ray.init(
            address=self._node.address,
            namespace="serve",
            log_to_driver=False,
            logging_level=logging.ERROR,
            _node_ip_address=self._node.node_ip_address,
        )

    def deploy(self, config: ServeDeploySchema) -> None:
        """Start Serve and hand it the applications; returns before they run."""
        client = serve_start(
            http_options=config.http_options.model_dump(),
            proxy_location=config.proxy_location,
            grpc_options=config.grpc_options.model_dump(),
            global_logging_config=config.logging_config,
            controller_options=config.controller_options,
        )
        self._client = client
        client.deploy_apps(config)

    def deployments(self) -> Deployments:
        """How far the applications are."""
        failed, waiting = [], []
        for name, application in serve.status().applications.items():
            if application.status in ("DEPLOY_FAILED", "UNHEALTHY"):
                broken = [d.message for d in application.deployments.values() if d.status == "DEPLOY_FAILED"]
                failed.append(f"{name}: {cause(next(filter(None, broken), application.message))}")
            waiting += [d for d, state in application.deployments.items() if state.status != "HEALTHY"]
        return Deployments("; ".join(failed) or None, ", ".join(waiting))

    def dead(self) -> str | None:
        """The name of a process of Ray's own that has ended, if there is one."""
        return next((kind for kind, _ in self._node.dead_processes()), None)

    def stop(self, serve_seconds: float = 15.0) -> None:
        """Let the replicas finish for `serve_seconds`, then end every process of this cluster and no other."""
        if self.dead() is None and self._client is not None:
            # In a thread, because it may wait longer than we want to; the cluster's end ends it too. By the client, for
            # the functions of `serve` would start another cluster once this one has gone.
            draining = threading.Thread(target=_delete_applications, args=(self._client,), daemon=True)
            draining.start()
            draining.join(serve_seconds)
        ray.shutdown()
        self._node.kill_all_processes(check_alive=False, allow_graceful=False)


def _delete_applications(client: ServeControllerClient) -> None:
    # The cluster may end meanwhile.
    with contextlib.suppress(RayError):
        client.delete_all_apps()


def object_store_bytes() -> int:
    """Room for objects that tasks pass to each other: a tenth of the memory, within what /dev/shm has."""
    wanted = min(max(psutil.virtual_memory().total // 10, MIN_OBJECT_STORE), MAX_OBJECT_STORE)
    if SHARED_MEMORY.is_dir():
        wanted = min(wanted, max(int(shutil.disk_usage(SHARED_MEMORY).free * 0.8), MIN_OBJECT_STORE))
    return wanted
