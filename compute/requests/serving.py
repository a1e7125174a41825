"""The pools that are served, as the ingress knows them: from the same typed arguments that deploy them."""

from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

from compute.errors import InvalidInput
from compute.lora.model_card import ModelCard, read_model_card
from compute.settings import Settings, get_settings
from compute.worker.protocol import Role

__all__ = ["ServedModel", "Serving"]


@dataclass(frozen=True, slots=True)
class ServedModel:
    """The pool behind a queue, and the base model that it holds.

    Attributes:
        name: What the model is called; None for a pool without one, on which no LoRA fits and every size is right.
        size_multiple: Width and height must be multiples of this many pixels.
        queue: Where tasks wait for the pool, whichever of its queues a request names.
        roles: What its models can do.
    """

    name: str | None
    size_multiple: int = 16
    revision: str | None = None
    queue: str = "inference"
    roles: frozenset[Role] = frozenset({"draw"})

    def card(self, models_root: Path) -> ModelCard | None:
        """The model's dimensions; None while they cannot be known (not downloaded, not built yet)."""
        if self.name is None:
            return None
        for folder in (models_root / self.name, Path(self.name)):
            if (folder / "transformer" / "config.json").is_file():
                return read_model_card(folder)
        return _hub_card(self.name, self.revision) if self.name.count("/") == 1 else None


@cache
def _hub_card(repository: str, revision: str | None) -> ModelCard | None:
    """Asked of the hub once a process, not once a request; the replica checks every LoRA's fit anyway."""
    return read_model_card(repository, revision=revision)


@dataclass(frozen=True, slots=True)
class Serving:
    """Queues that have workers, each with the pool behind it."""

    queues: dict[str, ServedModel]
    settings: Settings | None = field(default=None, compare=False, repr=False)
    """Those of this process where they are not those of its environment."""

    @property
    def known_settings(self) -> Settings:
        """What is set here, API keys aside."""
        return self.settings or get_settings()

    def with_settings(self, settings: Settings) -> "Serving":
        """The same in a process with these settings."""
        return replace(self, settings=settings)

    def pool(self, queue: str, roles: frozenset[Role]) -> ServedModel:
        """The pool behind a queue, for work that needs models of these roles.

        Raises:
            InvalidInput: there is none, or it lacks a model.
        """
        served = self.queues.get(queue)
        if served is None:
            known = ", ".join(sorted(self.queues))
            raise InvalidInput(f"No workers serve the queue `{queue}`; served: {known}.", field="queue_name")
        if missing := sorted(roles - served.roles):
            raise InvalidInput(
                f"The workers of the queue `{queue}` have no model for this ({', '.join(missing)}).", field="queue_name"
            )
        return served
