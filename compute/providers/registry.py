"""Providers, discovered from the modules of `compute.providers.types`.

A new provider is one file there that defines one subclass of `Provider`.
"""

import importlib
import inspect
import pkgutil
from collections.abc import Mapping
from functools import cache
from types import MappingProxyType, ModuleType

from compute.providers import types
from compute.providers.base import Provider
from compute.schemas.enums import ProviderType

__all__ = ["all_providers", "remote_queues"]


@cache
def all_providers() -> Mapping[ProviderType, Provider]:
    """Every provider by name.

    Raises:
        RuntimeError: a module defines no provider, or two define the same.
    """
    found: dict[ProviderType, Provider] = {}
    for module in pkgutil.walk_packages(types.__path__, f"{types.__name__}."):
        if module.ispkg:
            continue
        provider = _only_provider(importlib.import_module(module.name))
        if provider.name in found:
            raise RuntimeError(f"{provider.name} is defined twice, the second time in {module.name}")
        found[provider.name] = provider
    return MappingProxyType(found)


def remote_queues() -> frozenset[str]:
    """The queues of providers elsewhere."""
    return frozenset(provider.queue for provider in all_providers().values() if provider.queue is not None)


def _only_provider(module: ModuleType) -> Provider:
    defined = [
        member
        for _, member in inspect.getmembers(module, inspect.isclass)
        if issubclass(member, Provider) and member.__module__ == module.__name__
    ]
    if len(defined) != 1:
        raise RuntimeError(f"{module.__name__} must define exactly one Provider, found {len(defined)}")
    provider: Provider = defined[0]()
    return provider
