"""The interface of a provider."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from compute.schemas.enums import ProviderCapability, ProviderType
from compute.schemas.rules.strict import JsonBody
from compute.tasks.registry import TaskKind

__all__ = ["Provider"]


class Provider(ABC):
    """One that executes tasks. It holds nothing open; a request that names one which is not installed is refused."""

    name: ClassVar[ProviderType]
    config_model: ClassVar[type[JsonBody]]
    """What `provider_config` may say. It is in the OpenAPI document."""

    @abstractmethod
    def capabilities(self, kind: TaskKind[Any]) -> frozenset[ProviderCapability]:
        """Capabilities for tasks of this type."""
