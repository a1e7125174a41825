"""LOCAL: the pools of this cluster. What it can do for a type, the type says itself."""

from typing import Any

from compute.providers.base import Provider
from compute.schemas.enums import ProviderCapability, ProviderType
from compute.schemas.providers import LocalProviderConfig
from compute.tasks.registry import TaskKind

__all__ = ["Local"]


class Local(Provider):
    """LOCAL."""

    name = ProviderType.LOCAL
    config_model = LocalProviderConfig

    def capabilities(self, kind: TaskKind[Any]) -> frozenset[ProviderCapability]:
        return kind.capabilities
