"""Model families, discovered: a family is one module here that defines `FAMILY`.

These modules load no model library until one of their functions is called, so that the ingress can read what a
family accepts (its sizes, its tiny model) without importing torch.
"""

import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from compute.errors import NotFound
from compute.pipelines.native import NativeSize
from compute.pipelines.own_models import OwnModel

if TYPE_CHECKING:
    from compute.pipelines.config import ModelConfig
    from compute.worker.protocol import Role, StagedModel

__all__ = ["Activation", "Family", "families", "get_family"]

Activation = Callable[[], "StagedModel"]
"""A model in host memory; calling it, once, brings the model to its device."""


@dataclass(frozen=True, slots=True)
class Family:
    """The description of one kind of model.

    Attributes:
        name: The value of `family` in the configuration.
        size_multiple: Width and height of a request must be multiples of this many pixels.
        grid: The sides of generated images are multiples of this many pixels.
        prepare: Loads the model into host memory, from the configuration and its source, a local folder or a hub id.
        tiny_name: The model name that stands for the random-weight model of this architecture.
        tiny: The recipe of that model.
        demo_name: The name of the trained model of this architecture that comes with the project, if there is one.
        demo: The recipe of that model.
        native_size: The sizes that its models generate well, unless a model or the settings say others.
        role: The role of its models on a replica.
    """

    name: str
    size_multiple: int
    grid: int
    prepare: "Callable[[ModelConfig, str | Path], Activation]"
    tiny_name: str
    tiny: OwnModel
    native_size: NativeSize
    role: "Role" = "draw"
    demo_name: str | None = None
    demo: OwnModel | None = None

    @property
    def own_models(self) -> dict[str, OwnModel]:
        """The project's own models of this architecture, by name."""
        own = {self.tiny_name: self.tiny}
        return own if self.demo_name is None or self.demo is None else own | {self.demo_name: self.demo}


@cache
def families() -> dict[str, Family]:
    """Every family by name, in alphabetical order."""
    modules = [module.name for module in pkgutil.walk_packages(__path__, f"{__name__}.") if not module.ispkg]
    found: list[Family] = [import_module(name).FAMILY for name in modules]
    return {family.name: family for family in sorted(found, key=lambda family: family.name)}


def get_family(name: str) -> Family:
    """The family called `name`.

    Raises:
        NotFound: no module here defines it.
    """
    known = families()
    if name not in known:
        raise NotFound(f"Unknown model family `{name}`; known: {', '.join(known)}")
    return known[name]
