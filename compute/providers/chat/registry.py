"""Vendors of language models, discovered from the modules of `compute.providers.chat`."""

import importlib
import inspect
import pkgutil
from collections.abc import Mapping
from functools import cache
from types import MappingProxyType

from compute.providers import chat
from compute.providers.chat.base import ChatVendor

__all__ = ["chat_vendors"]


@cache
def chat_vendors() -> Mapping[str, ChatVendor]:
    """Every vendor by name.

    Raises:
        RuntimeError: two have the same name.
    """
    found: dict[str, ChatVendor] = {}
    for module in pkgutil.walk_packages(chat.__path__, f"{chat.__name__}."):
        for _, member in inspect.getmembers(importlib.import_module(module.name), inspect.isclass):
            if member.__module__ != module.name or not issubclass(member, ChatVendor) or inspect.isabstract(member):
                continue
            if member.name in found:
                raise RuntimeError(f"{member.name} is defined twice, the second time in {module.name}")
            found[member.name] = member()
    return MappingProxyType(found)
