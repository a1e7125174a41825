"""Step cache: denoising steps that reuse the previous one, MagCache (arXiv:2506.09045) with diffusers' cache hooks.

From step to step the blocks add nearly the same to their input; its growth or decay was measured once for FLUX.1-dev.
A step whose predicted error stays below a threshold adds the last computed step's result and runs no block at all. The
reused steps follow from the schedule alone, not from the image: a request takes the same time every time, nothing is
read back from the device, and the share of block calls saved is known beforehand.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from diffusers.hooks import HookRegistry, MagCacheConfig, ModelHook
from diffusers.hooks.mag_cache import FLUX_MAG_RATIOS, nearest_interp

from compute.pipelines.config import StepCacheLevel

__all__ = ["LEAST_STEPS", "StepCache"]

LEAST_STEPS = 16
"""Shorter schedules (turbo LoRAs, schnell) are never cached: their steps differ more than the measured ratios."""

_CONTEXT_HOOK = "compute_cache_context"


@dataclass(frozen=True, slots=True)
class _Dial:
    """MagCache's three numbers.

    Attributes:
        threshold: The most accumulated predicted relative error of reused steps.
        max_skip_steps: The most reused steps in a row.
        retention_ratio: Share of the steps, at the beginning, that are always computed.
    """

    threshold: float
    max_skip_steps: int
    retention_ratio: float


_LEVELS: dict[StepCacheLevel, _Dial] = {
    "light": _Dial(0.03, 2, 0.2),
    "balanced": _Dial(0.10, 4, 0.1),
    "strong": _Dial(0.24, 5, 0.1),  # published by the method's authors for FLUX.1-dev
}


class StepCache:
    """The step cache of one transformer. Not safe for concurrent use, as the transformer is not."""

    def __init__(self, transformer: Any, level: StepCacheLevel) -> None:
        """Hook the blocks, unless `level` is off. Call it last: after quantisation, LoRA layers and compilation."""
        self._transformer = transformer
        self._dial = _LEVELS.get(level)
        if self._dial is None:
            return
        self._config = MagCacheConfig(mag_ratios=FLUX_MAG_RATIOS, num_inference_steps=len(FLUX_MAG_RATIOS))
        transformer.enable_cache(self._config)
        self._contexts = _Contexts()
        HookRegistry.check_if_exists_or_initialize(transformer).register_hook(self._contexts, _CONTEXT_HOOK)

    @contextmanager
    def request(self, *, steps: int, first_step: int = 0, guided: bool = False) -> Iterator[None]:
        """Enclose the denoising of one image; the state is reset afterwards, however it ends.

        Args:
            steps: Steps of the whole schedule.
            first_step: The first step that is run; above 0 for image to image.
            guided: Two forwards a step, the prompt's and the negative prompt's, each with a cache of its own.
        """
        if self._dial is None:
            yield
            return
        self._schedule(self._dial, steps, first_step)
        self._contexts.start(("cond", "uncond") if guided else ("cond",))
        self._reset()
        try:
            yield
        finally:
            self._reset()

    def _schedule(self, dial: _Dial, steps: int, first_step: int) -> None:
        """Write this request's schedule into the configuration, which all hooks share and read at every step."""
        self._config.num_inference_steps = steps - first_step
        self._config.mag_ratios = nearest_interp(FLUX_MAG_RATIOS, steps)[first_step:]
        self._config.threshold = dial.threshold
        self._config.max_skip_steps = dial.max_skip_steps if steps >= LEAST_STEPS else 0
        self._config.retention_ratio = dial.retention_ratio

    def _reset(self) -> None:
        HookRegistry.check_if_exists_or_initialize(self._transformer).reset_stateful_hooks()


class _Contexts(ModelHook):
    """Names every forward for the cache; diffusers' text-to-image pipeline does so itself, image-to-image does not."""

    def __init__(self) -> None:
        super().__init__()
        self.start(("cond",))

    def start(self, names: tuple[str, ...]) -> None:
        """Begin a request whose steps consist of these forwards, in this order."""
        self._names = names
        self._forwards = 0

    def new_forward(self, module: Any, *args: Any, **kwargs: Any) -> Any:
        name = self._names[self._forwards % len(self._names)]
        self._forwards += 1
        with module.cache_context(name):
            return self.fn_ref.original_forward(*args, **kwargs)
