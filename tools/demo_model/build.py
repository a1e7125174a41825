"""Builds the demo model: renders images, trains a VAE on them, then a FLUX transformer by a FULL training of this
project."""

import json
import logging
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, FluxPipeline, FluxTransformer2DModel
from PIL import Image

from compute.pipelines.native import NativeSize, state_native_size
from compute.pipelines.quiet import no_progress_bars
from compute.pipelines.tiny.flux import flux_scheduler
from compute.schemas.training import TrainingType
from compute.training.cache import CachedImage, LatentCache, Manifest, write_chunk, write_manifest
from compute.training.loop.distributed import ProcessGroup
from compute.training.loop.history import StepReport
from compute.training.loop.trainer import Trainer
from compute.training.models.flux import FAMILY
from compute.training.models.flux.encoders import load_flux_encoders
from compute.training.spec import DataSpec, ModelSpec, OptimizerSpec, SampleSpec, TrainingSpec
from tools.demo_model.captions import caption
from tools.demo_model.recipe import Phase, Recipe
from tools.demo_model.scenes import Scene, random_scenes, render
from tools.demo_model.text import POOLED_WIDTH, TEXT_WIDTH, demo_clip, demo_t5
from tools.demo_model.vae import make_vae, train_decoder, train_vae

__all__ = ["build_demo"]

_log = logging.getLogger(__name__)
_NATIVE = NativeSize(most_pixels=128 * 128, longest_side=144)
"""It is trained on squares of 128 pixels; one latent more on one side does no harm, two do."""
_ENCODED_AT_ONCE = 64
_PROMPTS_AT_ONCE = 512
_PIXELS_AT_ONCE = 64 * 256 * 256
_SHIFT = 1.0
"""More noise than FLUX's own for images of this size: flat illustrations stay recognizable under less."""


def build_demo(folder: Path, work: Path, recipe: Recipe, device: torch.device) -> dict[str, Any]:
    """Build the model from scratch in `folder`. Returns measurements of the build.

    Finished parts are stored under `work`; an interrupted run resumes there.
    """
    no_progress_bars()
    measured = _Measurements(work / "measurements.json")
    with ProcessPoolExecutor() as pool:
        current = work / "start"
        if not current.exists():
            _make_start(current, recipe, pool, device, measured)
        for number, phase in enumerate(recipe.phases):
            trained = work / f"phase-{number}"
            if not trained.exists():
                _run_phase(current, trained, phase, recipe.seed + number, pool, device, measured)
            current = trained
        sharpened = work / "sharpened"
        if not sharpened.exists():
            _sharpen(current, sharpened, recipe, pool, device, measured)
    _ship(sharpened, folder)
    return {
        "recipe": asdict(recipe),
        **measured.found,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else f"{torch.get_num_threads()} cores",
        "torch": torch.__version__,
    }


class _Measurements:
    """Measurements, stored in a file part by part."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.found: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}

    def add(self, name: str, **values: float) -> None:
        self.found[name] = values
        self._file.parent.mkdir(parents=True, exist_ok=True)
        self._file.write_text(json.dumps(self.found))


def _make_start(
    folder: Path, recipe: Recipe, pool: ProcessPoolExecutor, device: torch.device, measured: _Measurements
) -> None:
    began = time.perf_counter()
    groups = [_RenderedScenes(pool, side, count, recipe.seed) for side, count in recipe.vae_images.items()]
    torch.manual_seed(recipe.seed)
    vae = make_vae()
    error = train_vae(
        vae,
        [group.images() for group in groups],
        steps=recipe.vae_steps,
        batch_size=recipe.vae_batch_size,
        crop=recipe.vae_crop,
        device=device,
        seed=recipe.seed,
    )
    measured.add("vae", l1=round(error, 5), seconds=round(time.perf_counter() - began))
    _log.info("VAE: L1 %.4f", error)
    _assemble(folder, vae.to("cpu"), recipe.seed)


class _RenderedScenes:
    """Scenes for training, and their images as rendered by other processes."""

    def __init__(self, pool: ProcessPoolExecutor, side: int, count: int, seed: int) -> None:
        self.side = side
        self.scenes: list[Scene] = list(islice(random_scenes(seed * 7 + side, count, held_out=False), count))
        self._arrays = pool.map(partial(_array, side=side), self.scenes, chunksize=32)

    def images(self) -> torch.Tensor:
        """Return (count, 3, side, side), uint8; may be called once."""
        return torch.from_numpy(np.stack(list(self._arrays))).permute(0, 3, 1, 2).contiguous()


def _array(scene: Scene, side: int) -> np.ndarray[Any, Any]:
    return np.asarray(render(scene, side))


def _assemble(folder: Path, vae: AutoencoderKL, seed: int) -> None:
    """Write a FLUX.1 with this VAE and an untrained transformer."""
    source = torch.Generator().manual_seed(seed)
    tokenizer, clip = demo_clip(source)
    tokenizer_2, t5 = demo_t5(source)
    torch.manual_seed(seed)
    transformer = FluxTransformer2DModel(
        in_channels=64,
        out_channels=64,
        num_layers=2,
        num_single_layers=4,
        attention_head_dim=32,
        num_attention_heads=5,
        joint_attention_dim=TEXT_WIDTH,
        pooled_projection_dim=POOLED_WIDTH,
        guidance_embeds=True,
        axes_dims_rope=(8, 12, 12),
    )
    _zero_gates(transformer)
    FluxPipeline(
        scheduler=flux_scheduler(_SHIFT),
        vae=vae,
        text_encoder=clip,
        tokenizer=tokenizer,
        text_encoder_2=t5,
        tokenizer_2=tokenizer_2,
        transformer=transformer,
    ).save_pretrained(folder)


def _zero_gates(transformer: FluxTransformer2DModel) -> None:
    """Set the gates of all blocks to zero, so that each starts as the identity and trains faster (adaLN-Zero,
    arXiv:2212.09748)."""
    with torch.no_grad():
        for name, module in transformer.named_modules():
            if isinstance(module, torch.nn.Linear) and (".norm" in name or name in ("norm_out.linear", "proj_out")):
                module.weight.zero_()
                module.bias.zero_()


def _sharpen(
    base: Path, folder: Path, recipe: Recipe, pool: ProcessPoolExecutor, device: torch.device, measured: _Measurements
) -> None:
    """Train the decoder further; the transformer and the latents stay the same."""
    began = time.perf_counter()
    groups = [_RenderedScenes(pool, side, count, recipe.seed + 50) for side, count in recipe.vae_images.items()]
    vae = AutoencoderKL.from_pretrained(base / "vae", local_files_only=True)
    error = train_decoder(
        vae,
        [group.images() for group in groups],
        steps=recipe.decoder_steps,
        batch_size=recipe.vae_batch_size,
        crop=recipe.vae_crop,
        device=device,
        seed=recipe.seed + 50,
    )
    measured.add("decoder", l1=round(error, 5), seconds=round(time.perf_counter() - began))
    unfinished = folder.with_name(f".{folder.name}")
    shutil.rmtree(unfinished, ignore_errors=True)
    shutil.copytree(base, unfinished, ignore=shutil.ignore_patterns("vae"))
    vae.to("cpu").save_pretrained(unfinished / "vae")
    unfinished.rename(folder)


def _run_phase(
    base: Path,
    folder: Path,
    phase: Phase,
    seed: int,
    pool: ProcessPoolExecutor,
    device: torch.device,
    measured: _Measurements,
) -> None:
    began = time.perf_counter()
    work = folder.with_name(f".{folder.name}")
    cache = work / "cache"
    if not cache.exists():
        groups = [_RenderedScenes(pool, side, count, seed + 100) for side, count in phase.images.items()]
        _encode(base, work / "encoding", groups, seed, device).rename(cache)
    spec = TrainingSpec(
        id=uuid.UUID(int=seed),
        output_name="demo-flux",
        training_type=TrainingType.FULL,
        trigger_word="demo",
        model=ModelSpec(name="demo", source=str(base), resolution=max(phase.images)),
        data=DataSpec(),
        optimizer=OptimizerSpec(
            name="adamw",
            learning_rate=phase.learning_rate,
            betas=(0.9, 0.99),
            schedule="cosine",
            warmup_steps=min(200, phase.steps // 10),
        ),
        samples=SampleSpec(),
        steps=phase.steps,
        batch_size=phase.batch_size,
        save_every=phase.steps,
        seed=seed,
        guidance=(1.0, 7.0),
        timesteps="shifted",
        caption_dropout=0.05,
        ema_decay=0.998,
    )
    _log.info("phase at %s: %d steps of %d", list(phase.images), phase.steps, phase.batch_size)
    trainer = Trainer(spec, FAMILY, base, LatentCache(cache, device), ProcessGroup(0, 1, device))
    log = _Log(work / "checkpoint")
    if log.checkpoint.exists():
        trainer.restore(log.checkpoint)
    trainer.run(log)
    shutil.rmtree(work / "model", ignore_errors=True)
    shutil.copytree(base, work / "model", ignore=shutil.ignore_patterns("transformer"))
    trainer.export(work / "model")
    (work / "model").rename(folder)
    shutil.rmtree(work)
    losses = trainer.history.losses[-200:]
    measured.add(folder.name, loss=round(sum(losses) / len(losses), 5), seconds=round(time.perf_counter() - began))


def _encode(base: Path, folder: Path, groups: Sequence[_RenderedScenes], seed: int, device: torch.device) -> Path:
    encoders = load_flux_encoders(base, device=device, dtype=torch.float32)
    words = np.random.default_rng(seed)
    numbers: dict[str, int] = {}
    pictures: list[CachedImage] = []
    for chunk, group in enumerate(groups):
        side, pixels, entries = group.side, group.images(), {}
        size = max(1, min(_ENCODED_AT_ONCE, _PIXELS_AT_ONCE // side**2))
        for start in range(0, len(pixels), size):
            part = pixels[start : start + size].to(device).float() / 127.5 - 1.0
            found = encoders.encode_images(part)
            for index in range(len(part)):
                entries[len(pictures) + index] = {name: value[index].half() for name, value in found.items()}
            for scene in group.scenes[start : start + size]:
                text = caption(scene, words)
                number = numbers.setdefault(text, len(numbers))
                pictures.append(CachedImage(f"{side}-{len(pictures)}", side, side, number))
        write_chunk(folder, "images", chunk, entries)
    prompts = [*numbers, ""]
    for chunk, start in enumerate(range(0, len(prompts), _PROMPTS_AT_ONCE)):
        encoded = encoders.encode_prompts(prompts[start : start + _PROMPTS_AT_ONCE])
        rows = range(len(encoded["pooled"]))
        write_chunk(
            folder,
            "prompts",
            chunk,
            {start + row: {name: value[row].half() for name, value in encoded.items()} for row in rows},
        )
    write_manifest(folder, Manifest(tuple(pictures), tuple(prompts)))
    return folder


class _Log:
    """A `Listener` that logs a line from time to time and keeps the last checkpoint."""

    def __init__(self, checkpoint: Path) -> None:
        self.checkpoint = checkpoint
        self._next = 0

    def stepped(self, reports: Sequence[StepReport]) -> None:
        last = reports[-1]
        if last.step >= self._next:
            self._next = last.step + 500
            _log.info("step %d: loss %.4f, %.0f images/s", last.step, last.loss, last.images_per_second)

    def sampled(self, step: int, index: int, image: Image.Image) -> None:
        raise NotImplementedError("the phases have no samples")

    def save(self, step: int, write: Callable[[Path], None] | None) -> None:
        if write is not None:
            unfinished = self.checkpoint.with_name("unfinished")
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir()
            write(unfinished)
            shutil.rmtree(self.checkpoint, ignore_errors=True)
            unfinished.rename(self.checkpoint)
        _log.info("step %d: saved", step)


def _ship(model: Path, folder: Path) -> None:
    """Write the model in 16 bits."""
    pipeline = FluxPipeline.from_pretrained(model, dtype=torch.float16, local_files_only=True)
    shutil.rmtree(folder, ignore_errors=True)
    pipeline.save_pretrained(folder)
    state_native_size(folder, _NATIVE)
    for file in _files(folder):
        if file.suffix == ".json":
            content = json.loads(file.read_text())
            # Paths on this machine mean nothing on another.
            content.pop("_name_or_path", None)
            # Indented tokenizers are twice the size.
            file.write_text(json.dumps(content, ensure_ascii=False, separators=(",", ":")))


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file())
