"""Initialisation of every process of the stack on a Ray cluster."""

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
    """Set up logging; on a loopback node, bind the replica's ports to the node's address alone."""
    configure_logging(settings)
    node = ray.util.get_node_ip_address()
    if ipaddress.ip_address(node).is_loopback:
        _keep_to(node)


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
