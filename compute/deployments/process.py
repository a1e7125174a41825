"""What every process of ours on a Ray cluster does first."""

import gc
import ipaddress
from typing import Any

import ray
from ray.serve._private import replica

from compute.deployments.logs import configure_logging
from compute.settings import Settings

__all__ = ["begin_process", "leave_out_of_collections"]

_EVERYWHERE = "[::]:0"


def begin_process(settings: Settings) -> None:
    """Set up logging, and keep the replica's ports where those of its node are."""
    configure_logging(settings)
    node = ray.util.get_node_ip_address()
    if ipaddress.ip_address(node).is_loopback:
        _keep_to(node)


def leave_out_of_collections() -> None:
    """Let the garbage collector pass over what is loaded by now, which stays until the process ends.

    To walk it holds the interpreter, and the event loop with it, for up to a quarter of a second.
    """
    gc.collect()
    gc.freeze()


def _keep_to(node: str) -> None:
    """Serve opens a replica's port for calls from other replicas, once it is constructed, on every address of the
    machine; and what comes there is unpickled. There is no setting for it."""
    add = replica.add_port_to_grpc_server

    def add_to_node(server: Any, address: str) -> int:
        port: int = add(server, f"{node}:0" if address == _EVERYWHERE else address)
        return port

    replica.add_port_to_grpc_server = add_to_node
