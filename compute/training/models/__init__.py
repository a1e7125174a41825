"""Discovers the families that can be trained: packages here that define `FAMILY`.

A family's network is in a module that only functions of the family import, so that the API can list the families
without importing torch.
"""

import pkgutil
from functools import cache
from importlib import import_module

from compute.errors import NotFound
from compute.training.models.base import TrainableFamily

__all__ = ["families", "get_family"]


@cache
def families() -> dict[str, TrainableFamily]:
    """Return every family by name, in alphabetical order."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__) if module.ispkg)
    found: list[TrainableFamily] = [import_module(f"{__name__}.{name}").FAMILY for name in names]
    return {family.name: family for family in found}


def get_family(name: str) -> TrainableFamily:
    """Return the family called `name`.

    Raises:
        NotFound: no package here defines it.
    """
    known = families()
    if name not in known:
        raise NotFound(f"Models of family `{name}` cannot be trained; known: {', '.join(known)}")
    return known[name]
