"""LOCAL: the pools of this cluster. What it can do for a type, the type says itself."""

from collections.abc import AsyncGenerator
from typing import Any

from compute.providers.base import Provider
from compute.schemas.enums import ProviderCapability, ProviderType
from compute.schemas.providers import LocalProviderConfig
from compute.tasks.registry import TaskKind, kind_of
from compute.worker.protocol import Job, WorkEvent

__all__ = ["Local"]


class Local(Provider):
    """LOCAL."""

    name = ProviderType.LOCAL
    config_model = LocalProviderConfig

    def capabilities(self, kind: TaskKind[Any]) -> frozenset[ProviderCapability]:
        return kind.capabilities

    def run(self, job: Job, worker: Any) -> AsyncGenerator[WorkEvent]:
        return kind_of(job.task_type).run(job, worker)
