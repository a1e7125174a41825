"""Checks that the providers which a request names can execute it."""

from typing import Any

from pydantic import BaseModel

from compute.errors import InvalidInput
from compute.providers.base import Provider
from compute.providers.registry import all_providers
from compute.schemas.enums import ProviderType
from compute.tasks.registry import TaskKind

__all__ = ["check_providers"]

_FIELDS = {
    "provider_type": "active_provider_capabilities",
    "fallback_provider_type": "fallback_provider_capabilities",
}
"""Of a request: the fields that name a provider, each with that of what it is asked for."""


def check_providers(request: BaseModel, kind: TaskKind[Any]) -> None:
    """Check the provider fields of a request or an update, as far as it has them. Without a name it is LOCAL.

    Raises:
        InvalidInput: a provider that is not set up, or a capability that it does not offer for this type.
    """
    named = {field: _provider(getattr(request, field, None) or ProviderType.LOCAL, field) for field in _FIELDS}
    for field, provider in named.items():
        asked = _FIELDS[field]
        missing = sorted(set(getattr(request, asked, None) or ()) - provider.capabilities(kind))
        if missing:
            raise InvalidInput(
                f"Tasks of type {kind.name} on {provider.name} do not offer {', '.join(missing)}.", field=asked
            )


def _provider(name: ProviderType, field: str) -> Provider:
    provider = all_providers().get(name)
    if provider is None:
        available = ", ".join(all_providers())
        raise InvalidInput(f"Provider {name} is not set up here; available: {available}.", field=field)
    return provider
