"""Initialisation of every process of the stack on a Ray cluster."""

import asyncio
import gc
import ipaddress
from typing import Any

import ray
from ray import serve
from ray.serve._private import replica
from ray.serve.exceptions import RayServeException

from compute.settings import Settings
from compute.telemetry.logs import configure_logging
from compute.telemetry.tracing import start_tracing, stop_tracing

__all__ = ["begin_process", "cluster_name", "end_process", "leave_out_of_collections", "process_name"]

_EVERYWHERE = "[::]:0"


def begin_process(settings: Settings, name: str | None = None) -> None:
    """Set up logs and traces under the process's `name`, by default the replica's; on a loopback node, bind the
    replica's ports to the node's address alone."""
    name = name or process_name()
    configure_logging(settings, process=name)
    start_tracing(settings, process=name)
    node = ray.util.get_node_ip_address()
    if ipaddress.ip_address(node).is_loopback:
        _keep_to(node)


async def end_process() -> None:
    """Send the last spans. Every deployment calls it at its end: Serve kills a replica that has stopped."""
    await asyncio.to_thread(stop_tracing)


def process_name() -> str:
    """`deployment#replica` of a Serve replica; that of the actor elsewhere."""
    try:
        context = serve.get_replica_context()
    except RayServeException:
        return f"actor#{ray.get_runtime_context().get_actor_id() or 'driver'}"
    return f"{context.deployment}#{context.replica_id.unique_id}"


def cluster_name() -> str:
    """A name of this Ray cluster that no other one has, whatever their addresses."""
    name: str = ray.get_runtime_context().get_session_name()
    return name


def leave_out_of_collections() -> None:
    """Exclude everything loaded so far from garbage collection; it stays until the process ends.

    Walking it would block the interpreter, and the event loop with it, for up to a quarter of a second.
    """
    gc.collect()
    gc.freeze()


def _keep_to(node: str) -> None:
    """Bind the port for calls from other replicas to `node`. Serve opens it on every address of the machine, once the
    replica is constructed, and unpickles what it receives; there is no setting for it."""
    add = replica.add_port_to_grpc_server

    def add_to_node(server: Any, address: str) -> int:
        port: int = add(server, f"{node}:0" if address == _EVERYWHERE else address)
        return port

    replica.add_port_to_grpc_server = add_to_node
