"""The training loop of one worker, with torch and without Ray."""

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import torch
from PIL import Image

from compute.errors import TaskFailed
from compute.schemas.enums import ErrorCategory
from compute.training.cache import LatentCache
from compute.training.loop.batches import BatchPlan
from compute.training.loop.checkpoints import TrainingProgress, load_checkpoint, save_checkpoint
from compute.training.loop.distributed import ProcessGroup
from compute.training.loop.history import History, StepReport
from compute.training.loop.optimizers import make_optimizer, make_schedule
from compute.training.loop.trainable import prepare
from compute.training.memory import reporting_out_of_memory, training_dtype, used_memory
from compute.training.models.base import Denoiser, TrainableFamily
from compute.training.spec import TrainingSpec

__all__ = ["Listener", "Trainer"]

_REPORT_SECONDS = 0.5
_RARELY = 25
"""Most steps between checkpoints that are never reduced further."""


class Listener(Protocol):
    """Receives the events of a training. Only the first worker's listener gets steps and samples."""

    def stepped(self, reports: Sequence[StepReport]) -> None:
        """Steps were taken since the last call."""
        ...

    def sampled(self, step: int, index: int, image: Image.Image) -> None:
        """An image was generated for the sample prompt of that index."""
        ...

    def save(self, step: int, write: Callable[[Path], None] | None) -> None:
        """A checkpoint is due. Every worker calls this; only the first one passes `write`, which fills a folder."""
        ...


class Trainer:
    """Trains a model from its first step to its last."""

    def __init__(
        self, spec: TrainingSpec, family: TrainableFamily, base: Path, cache: LatentCache, group: ProcessGroup
    ) -> None:
        """Load the network of the diffusers folder `base` and prepare it.

        Raises:
            OSError: a file of the model is missing or damaged.
            OutOfMemory: the device is too small for it.
            PeerLost: another worker is gone.
        """
        self._spec = spec
        self._family = family
        self._base = base
        self._cache = cache
        self._group = group
        self._dtype = training_dtype(spec, group.device)
        with reporting_out_of_memory(spec):
            self._denoiser: Denoiser = family.load_denoiser(base, spec, device=group.device, dtype=self._dtype)
            self._trained = prepare(self._denoiser, spec, self._dtype)
        self._weights = self._trained.masters
        group.broadcast(weight.data for weight in self._weights)
        self._trained.publish()
        self._plan = BatchPlan([len(bucket.captions) for bucket in cache.buckets], spec.batch_size, spec.seed)
        optimizer = make_optimizer(self._weights, spec.optimizer, group.device)
        schedule = make_schedule(optimizer, spec.optimizer, self.total_steps)
        self._progress = TrainingProgress(0, optimizer, schedule, History())
        self._random = torch.Generator(group.device)

    @property
    def total_steps(self) -> int:
        if self._spec.steps is not None:
            return self._spec.steps
        return math.ceil((self._spec.epochs or 1) * self._plan.per_epoch / self._spec.gradient_accumulation)

    @property
    def _save_every(self) -> int:
        """The requested interval, reduced so that an interrupted long training loses a tenth at most."""
        return min(self._spec.save_every, max(_RARELY, self.total_steps // 10))

    @property
    def step(self) -> int:
        """The number of steps taken."""
        return self._progress.step

    @property
    def history(self) -> History:
        return self._progress.history

    def restore(self, folder: Path) -> None:
        """Resume from a checkpoint. Raises the same errors as `load_checkpoint`."""
        load_checkpoint(folder, self._trained, self._progress)

    def run(self, listener: Listener) -> None:
        """Take all remaining steps.

        Raises:
            OutOfMemory: the device is too small; the message says what to change.
            PeerLost: another worker is gone.
            TaskFailed: the loss or its gradient is not finite; the message names the step.
        """
        with reporting_out_of_memory(self._spec):
            self._run(listener)

    def export(self, folder: Path) -> None:
        """Write the result: `adapter.safetensors` (LoRA, by PEFT's names) or the network's diffusers folder."""
        if self._trained.is_lora:
            from safetensors.torch import save_file

            save_file(self._trained.adapter(), folder / "adapter.safetensors")
        else:
            self._trained.save_whole(folder / self._family.part)

    def _run(self, listener: Listener) -> None:
        meter = _Meter(self._spec, self._group, self._plan)
        saved = self.step
        while self.step < self.total_steps:
            rate = self._progress.schedule.get_last_lr()[0]
            meter.add(self.step + 1, *self._take_step(), rate)
            self._progress.step += 1
            last = self.step == self.total_steps
            saves = last or self.step % self._save_every == 0
            samples = bool(self._spec.samples.prompts) and (last or self.step % self._spec.samples.every == 0)
            if saves or samples or meter.is_due():
                self._tell(meter, listener)
            if samples and self._group.rank == 0:
                self._sample(listener)
            if saves and saved < self.step:
                listener.save(self.step, self._write if self._group.rank == 0 else None)
                saved = self.step
            meter.resume()

    def _take_step(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Take one optimizer step over `batch_size * gradient_accumulation` images; return its loss and gradient
        norm."""
        spec, group = self._spec, self._group
        images = spec.batch_size * spec.gradient_accumulation
        loss = torch.zeros((), device=group.device)
        for micro in range(spec.gradient_accumulation):
            number = self.step * spec.gradient_accumulation + micro
            mine = self._plan[number].share(group.rank, group.size)
            if mine:
                # Seeded by position, so that a resumed run gets the same noise.
                self._random.manual_seed(((spec.seed + 1) * 1_000_003 + number) * 64 + group.rank)
                part = self._losses(self._plan[number].bucket, mine, number).sum() / images
                part.backward()
                self._trained.collect_gradients()
                loss += part.detach()
        if group.size > 1:
            for weight in self._weights:
                if weight.grad is None:
                    weight.grad = torch.zeros_like(weight)
            group.all_reduce([*(weight.grad for weight in self._weights if weight.grad is not None), loss])
        norm = torch.nn.utils.clip_grad_norm_(self._weights, spec.optimizer.max_grad_norm)
        self._progress.optimizer.step()
        self._trained.publish()
        self._progress.optimizer.zero_grad(set_to_none=True)
        self._progress.schedule.step()
        if self._trained.ema is not None:
            self._trained.ema.step(self._weights)
        return loss, norm.detach()

    def _losses(self, bucket: int, images: Sequence[int], number: int) -> torch.Tensor:
        tensors, captions = self._cache.images(bucket, images, dropped=self._dropped(number))
        mean, std = tensors.pop("mean").float(), tensors.pop("std").float()
        latents = mean + std * torch.randn(mean.shape, generator=self._random, device=mean.device)
        return self._denoiser.loss(latents, tensors | captions, self._random)

    def _dropped(self, number: int) -> torch.Tensor | None:
        """A mask of this worker's images that are trained without caption; independent of the number of workers."""
        if not self._spec.caption_dropout:
            return None
        random = torch.Generator().manual_seed((self._spec.seed + 1) * 999_983 + number)
        dropped = torch.rand(self._spec.batch_size, generator=random) < self._spec.caption_dropout
        return dropped[self._group.rank :: self._group.size]

    def _tell(self, meter: "_Meter", listener: Listener) -> None:
        reports = meter.take()
        for report in reports:
            # A gradient that is not finite has already damaged the weights, though the loss of its step is finite.
            for what, value in (("loss", report.loss), ("gradient", report.grad_norm)):
                if not math.isfinite(value):
                    raise TaskFailed(
                        f"The {what} became {value} at step {report.step}; the learning rate "
                        f"({self._spec.optimizer.learning_rate:g}) is probably too high.",
                        category=ErrorCategory.INVALID_INPUT,
                    )
            self._progress.history.add(report)
        if self._group.rank == 0 and reports:
            listener.stepped(reports)

    @torch.no_grad()
    def _sample(self, listener: Listener) -> None:
        spec, side = self._spec, self._spec.model.resolution
        empty = self._cache.prompt("")
        self._denoiser.module.eval()
        try:
            with self._trained.averaged():
                for index, prompt in enumerate(spec.samples.prompts):
                    latents = self._denoiser.denoise(
                        self._cache.prompt(prompt),
                        spec,
                        seed=spec.samples.seed + index,
                        size=(side, side),
                        negative=empty,
                    )
                    image = self._family.decode(self._base, latents.float(), device=self._group.device)
                    listener.sampled(self.step, index, image)
        finally:
            self._denoiser.module.train()

    def _write(self, folder: Path) -> None:
        save_checkpoint(folder, self._trained, self._progress)


class _Meter:
    """Collects measurements of steps without waiting for the device, until they are read."""

    def __init__(self, spec: TrainingSpec, group: ProcessGroup, plan: BatchPlan) -> None:
        self._spec = spec
        self._device = group.device
        self._plan = plan
        self._waiting: list[tuple[int, torch.Tensor, torch.Tensor, float]] = []
        self._since = time.perf_counter()

    def add(self, step: int, loss: torch.Tensor, norm: torch.Tensor, learning_rate: float) -> None:
        self._waiting.append((step, loss, norm, learning_rate))

    def is_due(self) -> bool:
        return time.perf_counter() - self._since >= _REPORT_SECONDS

    def resume(self) -> None:
        """Restart the clock: the time since `take` does not belong to a step."""
        if not self._waiting:
            self._since = time.perf_counter()

    def take(self) -> list[StepReport]:
        if not self._waiting:
            return []
        losses = torch.stack([loss for _, loss, _, _ in self._waiting]).tolist()
        norms = torch.stack([norm for _, _, norm, _ in self._waiting]).tolist()
        seconds = (time.perf_counter() - self._since) / len(self._waiting)
        images, memory = self._spec.batch_size * self._spec.gradient_accumulation, used_memory(self._device)
        reports = [
            StepReport(
                step=step,
                epoch=self._plan.epoch_of((step - 1) * self._spec.gradient_accumulation) + 1,
                loss=loss,
                learning_rate=learning_rate,
                grad_norm=norm,
                seconds=seconds,
                images_per_second=images / seconds,
                memory_bytes=memory,
            )
            for (step, _, _, learning_rate), loss, norm in zip(self._waiting, losses, norms, strict=True)
        ]
        self._waiting.clear()
        return reports
