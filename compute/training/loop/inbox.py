"""Messages from the workers of a training to its driver, through an actor that queues them."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from compute.schemas.enums import ErrorCategory
from compute.training.loop.history import StepReport

__all__ = ["Failed", "Inbox", "InboxActor", "LogLines", "Message", "Sampled", "Saved", "Stepped", "WorkersStarted"]


@dataclass(frozen=True, slots=True)
class WorkersStarted:
    """The workers are about to take the first step, or the first one after the last checkpoint."""

    step: int
    total_steps: int


@dataclass(frozen=True, slots=True)
class Stepped:
    """Steps were taken."""

    reports: tuple[StepReport, ...]


@dataclass(frozen=True, slots=True)
class Sampled:
    """Images were generated after a step: each with `prompt`, `seed` and its storage `path`."""

    step: int
    samples: tuple[dict[str, Any], ...]


@dataclass(frozen=True, slots=True)
class Saved:
    """A checkpoint is stored, and the plot of the losses so far."""

    step: int
    seconds: float
    loss_plot_path: str


@dataclass(frozen=True, slots=True)
class LogLines:
    """Lines of a worker's log."""

    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Failed:
    """The training cannot continue; a retry would fail the same way."""

    category: ErrorCategory
    detail: str


Message = WorkersStarted | Stepped | Sampled | Saved | LogLines | Failed


class InboxActor:
    """A queue of the messages that the driver has not read yet."""

    def __init__(self) -> None:
        self._messages: list[Message] = []
        self._news = asyncio.Event()

    async def put(self, message: Message) -> None:
        self._messages.append(message)
        self._news.set()

    async def take(self, seconds: float) -> list[Message]:
        """Return all messages; if there are none, wait up to `seconds` for one."""
        try:
            await asyncio.wait_for(self._news.wait(), seconds)
        except TimeoutError:
            return []
        self._news.clear()
        taken, self._messages = self._messages, []
        return taken


class Inbox:
    """A handle of the actor for both sides."""

    def __init__(self, output_name: str) -> None:
        """`output_name`: of the training, for the actor's name."""
        # The actor is useless without its driver, so it runs on the driver's node and depends on no other.
        job = ray.get_runtime_context()
        here = NodeAffinitySchedulingStrategy(job.get_node_id(), soft=False)
        name = f"Inbox of {output_name}, job {job.get_job_id()}"
        self._name = f"progress of {output_name}"
        self._actor = ray.remote(num_cpus=0, scheduling_strategy=here, name=name)(InboxActor).remote()

    def put(self, message: Message) -> None:
        """Send a message without waiting."""
        self._sent(message)

    def put_and_wait(self, message: Message) -> None:
        """Send a message and wait until it has arrived."""
        ray.get(self._sent(message))

    def take(self, seconds: float) -> Sequence[Message]:
        """Return all messages; if there are none, wait up to `seconds` for one."""
        taken: list[Message] = ray.get(self._actor.take.options(name=f"reading {self._name}").remote(seconds))
        return taken

    def _sent(self, message: Message) -> ray.ObjectRef:
        return self._actor.put.options(name=self._name).remote(message)
