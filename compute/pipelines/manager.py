"""Manages several models on one replica, by role, within a memory budget.

A model is loaded when a request for it is prepared. If the budget has no room for it, other models are unloaded, the
least recently used first. A model that is processing a request (it prepares or denoises one, or one waits to be
decoded) stays. One whose requests only wait for the device is unloaded last: they are prepared again when they get the
device. Waiting for them instead would deadlock, since the job that has the device may be the one that needs the room.
"""

import gc
import logging
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import torch

from compute.errors import InvalidInput, OutOfMemory, TaskFailed
from compute.pipelines import ModelConfig, prepare, resolve_model
from compute.pipelines.loading.footprint import expected_bytes, measured_bytes
from compute.pipelines.loading.weights import local_folder
from compute.pipelines.native import own_sizes
from compute.pipelines.slots import Denoised, ModelSlot, Waiting
from compute.worker.protocol import LoraSelection, OnStep, Prepared, Role, Size, StagedModel, TakesLoras

__all__ = ["ModelManager", "prepare_manager"]

_log = logging.getLogger(__name__)
GB = 10**9


def prepare_manager(
    models: Mapping[Role, ModelConfig], models_root: Path, *, budget: int | None = None
) -> Callable[[], "ModelManager"]:
    """Load the first of these models into host memory and locate the others; calling the result, once, brings the first
    to its device. Roles with equal configurations share one model.

    Args:
        models: The models by role; the first is the default.
        models_root: The folder of models by name.
        budget: Bytes that all loaded weights may take together; without it models are never unloaded.

    Raises:
        NotFound: there is no such model.
        OSError: the files of the first are missing, damaged or cannot be fetched.
        ValueError: a model alone is larger than the budget, or its settings do not fit this machine.
    """
    slots: dict[ModelConfig, ModelSlot] = {}
    for role, config in models.items():
        if config not in slots:
            expected = expected_bytes(config, models_root)
            if budget is not None and expected > budget:
                raise ValueError(_too_large(config.model, role, expected, budget))
            load = partial(_load, config, models_root)
            slots[config] = ModelSlot(
                config.model, role, load, expected, own_sizes(config, _folder(config, models_root))
            )
    first = next(iter(models.values()))
    activate = prepare(first, models_root)
    manager = ModelManager({role: slots[config] for role, config in models.items()}, budget=budget)

    def with_the_first() -> ModelManager:
        manager.put(next(iter(models)), activate)
        return manager

    return with_the_first


class ModelManager:
    """A staged model that passes each request to the model of its role. Safe for its three threads.

    Example:
        activate = prepare_manager({"draw": base, "edit": kontext}, models_root, budget=40 * 10**9)
        manager = activate()
        prepared = manager.prepare(request)  # loads the model of `request.role` if necessary
    """

    def __init__(self, slots: Mapping[Role, ModelSlot], *, budget: int | None = None) -> None:
        """The first role is the default; its model is unloaded only if no other equally idle one could be."""
        self._slots = slots
        self._default = next(iter(slots.values()))
        self._budget = budget
        self._uses = count(1)
        # Re-entrant: finalizers run during garbage collection, in any thread.
        self._changed = threading.Condition(threading.RLock())
        self._loading = False

    @property
    def name(self) -> str:
        """The name of the default model."""
        return self._default.name

    @property
    def names(self) -> dict[Role, str]:
        """The models' names by role."""
        return {role: slot.name for role, slot in self._slots.items()}

    @property
    def loaded(self) -> tuple[str, ...]:
        """Names of the models in memory, the least recently used first."""
        with self._changed:
            return tuple(slot.name for slot in sorted(self._in_memory(), key=lambda slot: slot.last_use))

    @property
    def bytes_in_use(self) -> int:
        """The bytes that the weights in memory take."""
        with self._changed:
            return sum(slot.bytes for slot in self._in_memory())

    def own_size(self, role: Role, size: Size) -> Size:
        slot = self._slots.get(role)
        return size if slot is None or slot.sizes is None else slot.sizes.nearest(size)

    def put(self, role: Role, load: Callable[[], StagedModel]) -> None:
        """Load the model of a role now, with `load`, whose errors pass through.

        Raises:
            TaskFailed: it is larger than the budget.
        """
        slot = self._slots[role]
        with self._the_only_load(slot):
            self._put(slot, load())

    def prefetch(self, loras: Sequence[LoraSelection]) -> bool:
        """Pass LoRAs to the models in memory that they fit. No model is loaded or unloaded, and none counts as used.

        Raises:
            InvalidInput: they fit none of the models that take LoRAs.
        """
        taken, refusals = False, []
        for slot in dict.fromkeys(self._slots.values()):
            with self._staying(slot) as model:
                if model is None or not isinstance(model, TakesLoras):
                    continue
                try:
                    taken = model.prefetch(loras) or taken
                except InvalidInput as error:
                    refusals.append(error)
        if refusals and not taken:
            raise refusals[0]
        return taken

    def prepare(self, request: Any) -> Waiting:
        """Load the model if it is not in memory, and let it prepare the request.

        Raises what the model raises, and:
            TaskFailed: no model has this role, or it cannot be loaded; the manager stays usable.
            OutOfMemory: the device is too small for it.
        """
        slot = self._slots.get(request.role)
        if slot is None:
            raise TaskFailed(
                f"No model of this replica has the role `{request.role}` (it has {', '.join(self._slots)}); "
                f"name one under models.{request.role} of its pool."
            )
        with self._using(slot) as model:
            waiting = Waiting(slot, request, _prepared(slot, model, request))
            with self._changed:
                slot.waiting.add(waiting)
            return waiting

    def denoise(self, prepared: Waiting, on_step: OnStep) -> Denoised:
        """Denoise a prepared request. Raises what the model raises, and what `prepare` raises if the model was unloaded
        meanwhile."""
        slot = prepared.slot
        with self._using(slot) as model:
            with self._changed:
                slot.waiting.discard(prepared)
                ready = prepared.ready
            if ready is None:
                ready = _prepared(slot, model, prepared.request)
            latents = model.denoise(ready, on_step)
            denoised = Denoised(slot, latents)
            with self._changed:
                slot.busy += 1
            denoised.release = weakref.finalize(denoised, self._release, slot)
            return denoised

    def decode(self, latents: Denoised) -> Any:
        """Decode to pixels. Raises what the model raises."""
        try:
            with self._using(latents.slot) as model:
                return model.decode(latents.latents)
        finally:
            latents.release()

    @contextmanager
    def _using(self, slot: ModelSlot) -> Iterator[StagedModel]:
        """Within the block, the model is loaded and stays loaded."""
        with self._changed:
            slot.busy += 1
            slot.last_use = next(self._uses)
        try:
            yield slot.model or self._loaded(slot)
        finally:
            self._release(slot)

    @contextmanager
    def _staying(self, slot: ModelSlot) -> Iterator[StagedModel | None]:
        """Within the block, the model stays loaded if it is."""
        with self._changed:
            slot.busy += 1
            model = slot.model
        try:
            yield model
        finally:
            self._release(slot)

    def _release(self, slot: ModelSlot) -> None:
        with self._changed:
            slot.busy -= 1
            self._changed.notify_all()

    def _loaded(self, slot: ModelSlot) -> StagedModel:
        with self._the_only_load(slot):
            if slot.model is not None:
                return slot.model
            self._make_room(slot, slot.bytes or slot.expected)
            return self._put(slot, _loaded_or_failed(slot))

    @contextmanager
    def _the_only_load(self, slot: ModelSlot) -> Iterator[None]:
        """Within the block, no other thread loads a model, or this model is loaded.

        Not a mutex: a thread that still waited for it after its model was loaded would keep that model busy, and so
        withhold its room from the load that has the mutex by then.
        """
        with self._changed:
            self._changed.wait_for(lambda: slot.model is not None or not self._loading)
            mine = slot.model is None
            self._loading = self._loading or mine
        try:
            yield
        finally:
            if mine:
                with self._changed:
                    self._loading = False
                    self._changed.notify_all()

    def _put(self, slot: ModelSlot, model: StagedModel) -> StagedModel:
        slot.bytes = _bytes_of(model, slot.expected)
        # It may take more than estimated from its files.
        self._make_room(slot, slot.bytes)
        slot.model = model
        return model

    def _make_room(self, slot: ModelSlot, needed: int) -> None:
        """Unload models until so many bytes are free, and wait for those that are busy.

        Raises:
            TaskFailed: it is more than the whole budget.
        """
        if self._budget is None:
            return
        if needed > self._budget:
            raise TaskFailed(_too_large(slot.name, slot.role, needed, self._budget))
        gone = []
        with self._changed:
            while sum(other.bytes for other in self._in_memory()) + needed > self._budget:
                idle = [other for other in self._in_memory() if not other.busy]
                if idle:
                    gone.append(min(idle, key=self._worth))
                    gone[-1].unload()
                else:
                    self._changed.wait()
        if gone:
            _give_back_memory()
            _log.info("%s left the device for %s", ", ".join(other.name for other in gone), slot.name)

    def _worth(self, slot: ModelSlot) -> tuple[bool, bool, int]:
        return bool(slot.waiting), slot is self._default, slot.last_use

    def _in_memory(self) -> list[ModelSlot]:
        return [slot for slot in dict.fromkeys(self._slots.values()) if slot.model is not None]


def _folder(config: ModelConfig, models_root: Path) -> Path | None:
    return local_folder(resolve_model(config, models_root), config.revision)


def _load(config: ModelConfig, models_root: Path) -> StagedModel:
    return prepare(config, models_root)()


def _loaded_or_failed(slot: ModelSlot) -> StagedModel:
    began = time.perf_counter()
    exhausted, reason = False, ""
    try:
        model = slot.load()
        _log.info("%s is loaded for %s after %.2f s", slot.name, slot.role, time.perf_counter() - began)
        return model
    except Exception as error:
        _log.exception("%s could not be loaded", slot.name)
        exhausted, reason = isinstance(error, torch.OutOfMemoryError), f"{type(error).__name__}: {error}"
    # Outside the handler: the exception's frames would keep what was loaded so far.
    _give_back_memory()
    if exhausted:
        raise OutOfMemory(
            f"CUDA out of memory while loading {slot.name} for {slot.role}; lower memory_budget_gb of the pool"
        )
    raise TaskFailed(f"The model {slot.name} for {slot.role} could not be loaded: {reason}")


def _prepared(slot: ModelSlot, model: StagedModel, request: Any) -> Prepared:
    # Called by the thread that prepares, and by the one that denoises if the model was unloaded meanwhile.
    with slot.preparing:
        return model.prepare(request)


def _bytes_of(model: Any, otherwise: int) -> int:
    """Measured, if the model exposes its modules."""
    modules = getattr(model, "modules", None)
    return otherwise if modules is None else measured_bytes(modules())


def _too_large(name: str, role: Role, size: int, budget: int) -> str:
    return (
        f"The model {name} for {role} takes {size / GB:.3g} GB of weights; memory_budget_gb is {budget / GB:.3g}. "
        "Raise it, or quantize the model."
    )


def _give_back_memory() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
