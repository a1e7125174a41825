"""Measurements of every step; part of a checkpoint, so that a resumed run has the whole curve."""

from dataclasses import dataclass, field
from typing import Any

__all__ = ["History", "StepReport"]


@dataclass(frozen=True, slots=True)
class StepReport:
    """One optimizer step.

    `images_per_second` counts all workers' images; `memory_bytes` is the device's peak, or the process's resident size
    on
    a CPU; `seconds` is the duration of the step.
    """

    step: int
    epoch: int
    loss: float
    learning_rate: float
    grad_norm: float
    seconds: float
    images_per_second: float
    memory_bytes: int


@dataclass(slots=True)
class History:
    """Loss and learning rate of every step from the first one on."""

    losses: list[float] = field(default_factory=list)
    learning_rates: list[float] = field(default_factory=list)

    def add(self, report: StepReport) -> None:
        self.losses.append(report.loss)
        self.learning_rates.append(report.learning_rate)

    def state(self) -> dict[str, Any]:
        return {"losses": self.losses, "learning_rates": self.learning_rates}

    def restore(self, state: dict[str, Any]) -> None:
        self.losses, self.learning_rates = list(state["losses"]), list(state["learning_rates"])
