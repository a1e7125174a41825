"""What the tests of the trainer share: specs, pictures in a cache, a listener that keeps what it hears, and a second,
linear family whose training can be worked out by hand."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from uuid import UUID

import torch
from PIL import Image, ImageDraw
from safetensors.torch import load_file

from compute.training.cache import CachedImage, LatentCache, Manifest, write_chunk, write_manifest
from compute.training.loop.distributed import ProcessGroup
from compute.training.loop.history import StepReport
from compute.training.loop.trainer import Trainer
from compute.training.models.base import Denoiser, Encoders, Tensors, TrainableFamily
from compute.training.models.flux import FAMILY
from compute.training.preprocessing.encode import encode_images, encode_prompts
from compute.training.spec import TrainingSpec

CPU = torch.device("cpu")
ALONE = ProcessGroup(0, 1, CPU)
CAPTIONS = ("red", "blue disc", "a green tie", "white", "")
SIZES = ((64, 64), (64, 64), (64, 64), (64, 64), (64, 64), (48, 64), (48, 64), (48, 64))


def spec_of(*, optimizer: str = "adamw", learning_rate: float = 1e-2, **changes: Any) -> TrainingSpec:
    """A short LoRA for the tiny FLUX with some fields changed; the two named ones are the optimizer's, as are those in
    `moves`."""
    moves = {"name": optimizer, "learning_rate": learning_rate} | changes.pop("moves", {})
    fields: dict[str, Any] = {
        "id": UUID(int=6),
        "output_name": "tie",
        "trigger_word": "tie",
        "model": {"name": "tiny", "source": "tiny-flux", "resolution": 64},
        "data": {"images": ("a.png",)},
        "batch_size": 2,
        "rank": 4,
        "optimizer": moves,
    }
    if "epochs" not in changes:
        fields["steps"] = 4
    return TrainingSpec.model_validate(fields | changes)


def pictures() -> list[Image.Image]:
    """Discs on plain grounds in two sizes."""
    drawn = []
    for number, size in enumerate(SIZES):
        picture = Image.new("RGB", size, ("red", "blue", "green", "white")[number % 4])
        ImageDraw.Draw(picture).ellipse((4 + 3 * number, 8, 24 + 3 * number, 40), fill="black")
        drawn.append(picture)
    return drawn


def fill_cache(encoders: Encoders, folder: Path) -> Path:
    """A cache of the pictures in chunks of three and of the captions in chunks of two."""
    drawn = [(number, picture, None) for number, picture in enumerate(pictures())]
    for chunk, start in enumerate(range(0, len(drawn), 3)):
        encode_images(encoders, drawn[start : start + 3], folder, chunk)
    numbered = list(enumerate(CAPTIONS))
    for chunk, start in enumerate(range(0, len(numbered), 2)):
        encode_prompts(encoders, numbered[start : start + 2], folder, chunk)
    shown = (CachedImage(f"{number}.png", *size, number % 4) for number, size in enumerate(SIZES))
    write_manifest(folder, Manifest(tuple(shown), CAPTIONS))
    return folder


@dataclass
class Recorder:
    """Implements `Listener`: keeps everything, and checkpoints under `folder` if there is one."""

    folder: Path | None = None
    reports: list[StepReport] = field(default_factory=list)
    samples: dict[tuple[int, int], bytes] = field(default_factory=dict)
    saves: list[int] = field(default_factory=list)
    on_save: Callable[[int], None] | None = None

    def stepped(self, reports: Sequence[StepReport]) -> None:
        self.reports += reports

    def sampled(self, step: int, index: int, picture: Image.Image) -> None:
        self.samples[step, index] = picture.tobytes()

    def save(self, step: int, write: Callable[[Path], None] | None) -> None:
        self.saves.append(step)
        if self.on_save is not None:
            self.on_save(step)
        if self.folder is not None and write is not None:
            folder = self.folder / str(step)
            folder.mkdir()
            write(folder)


@dataclass
class Watched:
    """A family whose networks can be looked at."""

    networks: list[Denoiser] = field(default_factory=list)
    change: Callable[[Denoiser], None] | None = None

    @property
    def family(self) -> TrainableFamily:
        return replace(FAMILY, load_denoiser=self._load)

    @property
    def module(self) -> Any:
        return self.networks[-1].module

    def _load(self, folder: Path, spec: TrainingSpec, *, device: torch.device, dtype: torch.dtype) -> Denoiser:
        found = FAMILY.load_denoiser(folder, spec, device=device, dtype=dtype)
        self.networks.append(found)
        if self.change is not None:
            self.change(found)
        return found


@dataclass(frozen=True)
class Bench:
    """A model and a cache to train on."""

    model: Path
    folder: Path

    @property
    def cache(self) -> LatentCache:
        return LatentCache(self.folder, CPU)

    def trainer(self, spec: TrainingSpec, family: TrainableFamily = FAMILY, group: ProcessGroup = ALONE) -> Trainer:
        return Trainer(spec, family, self.model, self.cache, group)

    def train(self, spec: TrainingSpec, listener: Recorder | None = None, family: TrainableFamily = FAMILY) -> Trainer:
        """A training from its first step to its last."""
        trainer = self.trainer(spec, family)
        trainer.run(listener or Recorder())
        return trainer


def learned(trainer: Trainer, folder: Path) -> Tensors:
    """What a LoRA's training would hand over."""
    folder.mkdir(parents=True, exist_ok=True)
    trainer.export(folder)
    return load_file(folder / "adapter.safetensors")


class Lines:
    """A denoiser without noise: it learns the mean of a picture's latents from the pooled caption, by one matrix."""

    lora_targets: Sequence[str] = ("0",)

    def __init__(self, first: float = 0.05) -> None:
        self.module = torch.nn.Sequential(torch.nn.Linear(8, 4, bias=False))
        torch.nn.init.constant_(self.module[0].weight, first)

    def loss(self, latents: torch.Tensor, batch: Tensors, random: torch.Generator) -> torch.Tensor:
        said: torch.Tensor = self.module(batch["pooled"].to(self.module[0].weight.dtype)).float()
        return (said - latents.flatten(1).mean(dim=1, keepdim=True)).square().mean(dim=1)

    def denoise(self, prompt: Tensors, spec: TrainingSpec, **_settings: Any) -> torch.Tensor:
        drawn: torch.Tensor = self.module(prompt["pooled"]).view(1, 1, 2, 2)
        return drawn


class Root(Lines):
    """The same with the root of the error, whose slope at 0 is no number: a perfect start spoils the weights."""

    def loss(self, latents: torch.Tensor, batch: Tensors, random: torch.Generator) -> torch.Tensor:
        return super().loss(latents, batch, random).sqrt()


def family_of(make: Callable[[], Denoiser]) -> TrainableFamily:
    """A family whose only network `make` makes."""

    def load(_folder: Path, _spec: TrainingSpec, *, device: torch.device, dtype: torch.dtype) -> Denoiser:
        return make()

    return replace(FAMILY, name="lines", load_denoiser=load)


def fill_lines(folder: Path, values: Sequence[float], *, spread: float = 0.0) -> Path:
    """A cache of pictures of one number each, of which the encoder is as unsure as `spread` says, under captions that
    have nothing to do with one another."""
    captions = [f"{number}" for number in range(len(values))]
    shown = [{"mean": torch.full((1, 2, 2), value), "std": torch.full((1, 2, 2), spread)} for value in values]
    write_chunk(folder, "images", 0, dict(enumerate(shown)))
    codes = torch.nn.functional.one_hot(torch.arange(len(values) + 1), 8).float()
    write_chunk(folder, "prompts", 0, {number: {"pooled": code} for number, code in enumerate(codes)})
    listed = (CachedImage(caption, 16, 16, number) for number, caption in enumerate(captions))
    write_manifest(folder, Manifest(tuple(listed), (*captions, "")))
    return folder
