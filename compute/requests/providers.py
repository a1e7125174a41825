"""Who may be asked to execute a task, and what for."""

from typing import Any

from pydantic import BaseModel

from compute.errors import InvalidInput
from compute.schemas.enums import ProviderType
from compute.tasks.registry import TaskKind

__all__ = ["check_providers"]


def check_providers(request: BaseModel, kind: TaskKind[Any]) -> None:
    """Check the provider fields of a request or an update, as far as it has them.

    Raises:
        InvalidInput: a provider that is not set up, or a capability that it does not offer for this type.
    """
    for field in ("provider_type", "fallback_provider_type"):
        if (provider := getattr(request, field, None)) not in (None, ProviderType.LOCAL):
            raise InvalidInput(f"Provider {provider} is not set up here; available: LOCAL.", field=field)
    for field in ("active_provider_capabilities", "fallback_provider_capabilities"):
        missing = sorted(set(getattr(request, field, None) or ()) - kind.capabilities)
        if missing:
            raise InvalidInput(f"Tasks of type {kind.name} on LOCAL do not offer {', '.join(missing)}.", field=field)
