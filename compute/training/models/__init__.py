"""Families that can be trained, discovered: a family is a module here that defines `FAMILY`.

Its network is in a module called the same with `_network` behind; only functions of the family import that, so that
the API can read what there is without importing torch.
"""

import pkgutil
from functools import cache
from importlib import import_module

from compute.errors import NotFound
from compute.training.models.base import TrainableFamily

__all__ = ["families", "get_family"]


@cache
def families() -> dict[str, TrainableFamily]:
    """Every family by name, in alphabetical order."""
    modules = {module.name for module in pkgutil.iter_modules(__path__)}
    names = sorted(name for name in modules if f"{name}_network" in modules)
    found: list[TrainableFamily] = [import_module(f"{__name__}.{name}").FAMILY for name in names]
    return {family.name: family for family in found}


def get_family(name: str) -> TrainableFamily:
    """The family called `name`.

    Raises:
        NotFound: no module here defines it.
    """
    known = families()
    if name not in known:
        raise NotFound(f"Models of family `{name}` cannot be trained; known: {', '.join(known)}")
    return known[name]
