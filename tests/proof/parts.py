"""The components that run in a simulated world, with the times that they have there."""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Protocol

from compute.dispatch.dispatcher import Dispatcher, DispatchPolicy
from compute.dispatch.retry import RetryPolicy
from compute.webhooks.sender import SendPolicy, WebhookSender
from tests.proof.fleet import SimulatedPool
from tests.proof.model import Model
from tests.proof.simulated_engine import SimulatedEngine
from tests.proof.simulated_outbox import SimulatedDeliveries, SimulatedReceivers
from tests.proof.simulated_store import SimulatedStore
from tests.proof.world import Process

__all__ = ["POLICY", "REAL", "Parts", "Runs", "dispatcher", "sender"]

POLICY = DispatchPolicy(
    lease=15.0,
    poll=1.0,
    pulse=0.5,
    beat=20.0,
    task_timeout=120.0,
    queued_timeout=60.0,
    # What is lost very often without having begun is charged after all; in bad weather that would be nobody's fault.
    retry=RetryPolicy(max_retries=2, backoff_seconds=2.0, longest_seconds=30.0, free_losses=1000),
)
_TIMEOUT = 15.0


class Runs(Protocol):
    """Works until it is cancelled."""

    async def run(self) -> None: ...


@dataclass(frozen=True)
class Parts:
    """How each process is made: from the real components, or from some with a planted fault."""

    dispatcher: Callable[[Process, SimulatedPool], Runs]
    sender: Callable[[Process], Runs]
    engine: Callable[[Process], Runs] = SimulatedEngine
    model: type[Model] = Model


def dispatcher(process: Process, pool: SimulatedPool) -> Runs:
    return Dispatcher(SimulatedStore(process), [pool], POLICY, process.name)


def sender(process: Process) -> Runs:
    return WebhookSender(
        SimulatedDeliveries(process),
        SimulatedReceivers(process, _TIMEOUT).post,
        timeout_seconds=_TIMEOUT,
        owner=process.name,
        policy=SendPolicy(poll=2.0),
        chance=Random(process.world.chance.random()),
    )


REAL = Parts(dispatcher, sender)
