"""Vendors of language models, discovered from the modules of `compute.providers.chat`."""

import importlib
import inspect
import pkgutil
from collections.abc import Mapping
from functools import cache
from types import MappingProxyType

from compute.errors import InvalidInput
from compute.providers import chat
from compute.providers.chat.base import ChatVendor
from compute.settings import Settings

__all__ = ["available", "chat_vendors"]

_FIRST = ("openai", "anthropic", "gemini", "ollama")
"""Of several vendors that are set up, the first of these is the default."""


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


def available(settings: Settings) -> list[str]:
    """The vendors that an operator has set up, the default first. Ollama needs no key: it is, where its address was
    set."""
    names = sorted(chat_vendors(), key=lambda name: (_FIRST.index(name) if name in _FIRST else len(_FIRST), name))
    return [name for name in names if _is_set_up(name, settings)]


def _is_set_up(name: str, settings: Settings) -> bool:
    if name == "ollama" and "ollama_host" not in settings.model_fields_set:
        return False
    try:
        chat_vendors()[name].account(settings)
    except InvalidInput:
        return False
    return True
