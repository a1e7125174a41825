"""Cost of LoRAs: changing them between requests, and generating with them: `python -m benchmarks.pipelines.lora`.

The whole FLUX.1 topology (19 double and 38 single blocks) with narrow layers, so that the cost per layer of each
way is measured; on a machine with a CUDA device, the full width as well. Every request asks for four LoRAs of rank
16 on 418 layers, out of a pool of eight. Compared are

- the rank buffers of compute/pipelines/lora/switch.py,
- PEFT through diffusers with all eight loaded, where a switch activates four of them (`set_adapters`),
- the same with the four loaded and unloaded for every request.

Only one forward of the transformer is timed, without compilation: one denoising step.
"""

import itertools
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import FluxPipeline, FluxTransformer2DModel
from diffusers.utils import logging

from benchmarks.harness import arguments, interleave, machine, median, print_table, ratio, say, spread
from compute.lora.model_card import ModelCard
from compute.pipelines.lora.switch import StaticLoras
from compute.worker.protocol import LoraSelection

Selections = tuple[LoraSelection, ...]

_POOL = 8
_PER_REQUEST = 4
_RANK = 16
_STATIC, _WEIGHTS, _CACHED, _RELOADED = "rank buffers", "rank buffers, other weights", "PEFT, cached", "PEFT, reloaded"
_BASE, _OFF, _ON, _PEFT = "no LoRAs, plain model", "no LoRAs, rank buffers", "4 LoRAs, rank buffers", "4 LoRAs, PEFT"


@dataclass(frozen=True)
class Scale:
    """Size of a model and of its inputs: `tokens` are those of the image and of the text."""

    name: str
    heads: int
    head_dim: int
    text_width: int
    tokens: tuple[int, int]
    device: torch.device
    dtype: torch.dtype


NARROW = Scale("narrow layers, CPU", 2, 32, 64, (64, 32), torch.device("cpu"), torch.float32)
FULL = Scale("FLUX.1 at 1024x1024", 24, 128, 4096, (4096, 512), torch.device("cuda"), torch.bfloat16)


def main() -> None:
    options = arguments(__doc__, rounds=5).parse_args()
    say(machine())
    # The LoRAs have no part for the text encoder, which this pipeline does not have either.
    logging.set_verbosity_error()
    warnings.filterwarnings("ignore", message="Already found a `peft_config` attribute")
    scales = [NARROW, FULL] if torch.cuda.is_available() else [NARROW]
    for scale in scales:
        with tempfile.TemporaryDirectory(prefix="compute-bench-") as folder, torch.no_grad():
            run(scale, Path(folder), rounds=2 if options.quick else options.rounds, requests=2 if options.quick else 5)
    report_work()


def run(scale: Scale, folder: Path, *, rounds: int, requests: int) -> None:
    """Measure switches and forwards on one scale, all ways in turns, and print a table for each."""
    say(f"\n{scale.name}: making the models and {_POOL} LoRAs")
    static, cached = pipeline_of(scale), pipeline_of(scale)
    card = ModelCard.from_config(static.transformer.config)
    pool = [write_lora(folder / f"{seed}.safetensors", card, scale, seed) for seed in range(_POOL)]
    loras = StaticLoras(
        static,
        rank=_PER_REQUEST * _RANK,
        capacity=_POOL,
        device_capacity=_POOL,
        device=scale.device,
        dtype=scale.dtype,
    )
    loras.prefetch(pool)
    switches = {
        _STATIC: Rotation(scale, pool, loras.apply),
        _WEIGHTS: Reweighting(scale, pool, loras.apply),
    }
    arms = {name: way.of(requests) for name, way in switches.items()}
    reloading = Rotation(scale, pool, lambda chosen: reload(cached, chosen)).of(1)
    reloaded = interleave(arms | {_RELOADED: reloading}, rounds)
    load(cached, pool)
    activated = interleave(
        {_CACHED: Rotation(scale, pool, lambda chosen: activate(cached, chosen)).of(requests)}, rounds
    )
    report("switching 4 LoRAs", reloaded | activated, baseline=_RELOADED)
    report_forwards(scale, static, cached, loras, pool, rounds, requests)


class Rotation:
    """Requests for four neighbours of the pool, moving on by one each time."""

    def __init__(self, scale: Scale, pool: list[LoraSelection], switch: Callable[[Selections], object]) -> None:
        self._scale = scale
        self._switch = switch
        self._sets = itertools.cycle(self.sets(pool))

    def sets(self, pool: list[LoraSelection]) -> list[Selections]:
        ring = pool + pool
        return [tuple(ring[start : start + _PER_REQUEST]) for start in range(0, _POOL, 3)]

    def of(self, requests: int) -> Callable[[], float]:
        """Return a function that makes some switches in a row and returns the median of their milliseconds."""

        def measure() -> float:
            self._switch(next(self._sets))
            return median([milliseconds(self._scale, lambda: self._switch(next(self._sets))) for _ in range(requests)])

        return measure


class Reweighting(Rotation):
    """Requests for the same four LoRAs under other weights."""

    def sets(self, pool: list[LoraSelection]) -> list[Selections]:
        return [
            tuple(LoraSelection(one.name, one.path, weight) for one in pool[:_PER_REQUEST]) for weight in (0.3, 0.6)
        ]


def report_forwards(
    scale: Scale, static: Any, cached: Any, loras: StaticLoras, pool: list[LoraSelection], rounds: int, requests: int
) -> None:
    step = inputs(scale)

    def forward(pipeline: Any, prepare: Callable[[], object]) -> Callable[[], float]:
        def measure() -> float:
            prepare()
            pipeline.transformer(**step)
            return median([milliseconds(scale, lambda: pipeline.transformer(**step)) for _ in range(requests)])

        return measure

    plain = pipeline_of(scale)
    chosen = tuple(pool[:_PER_REQUEST])
    activate(cached, chosen)
    arms = {
        _BASE: forward(plain, lambda: None),
        _OFF: forward(static, lambda: loras.apply(())),
        _ON: forward(static, lambda: loras.apply(chosen)),
        _PEFT: forward(cached, lambda: None),
    }
    results = interleave(arms, rounds)
    report("one step", results, baseline=_PEFT)
    say(f"4 LoRAs in rank buffers against no LoRAs: {ratio(results[_ON], results[_BASE])}")
    activate(cached, chosen)
    loras.apply(chosen)
    ours, theirs = (one.transformer(**step)[0].float() for one in (static, cached))
    say(f"largest difference to PEFT: {(ours - theirs).abs().max():.1e}, of numbers up to {theirs.abs().max():.1f}")


def report(title: str, results: dict[str, list[float]], *, baseline: str) -> None:
    rows = [[name, spread(values, 2), ratio(results[baseline], values)] for name, values in results.items()]
    print_table(title, ["way", "ms: median (range)", "faster than " + baseline], rows)


def report_work() -> None:
    """The products that LoRAs add at full size, from the shapes alone."""
    card = ModelCard(3072, 4096, 768, 64, 19, 38, guidance_embeds=True)
    image, text = FULL.tokens
    base = added = 0
    for name, (inside, outside) in card.linears().items():
        tokens = tokens_of(name, image, text)
        base += tokens * inside * outside
        added += tokens * (inside + outside) * _PER_REQUEST * _RANK
    attention = (card.num_layers + card.num_single_layers) * 2 * (image + text) ** 2 * card.inner_dim
    say(f"\nproducts that 4 LoRAs of rank {_RANK} add at 1024x1024: {added / (base + attention):.1%}")


def tokens_of(name: str, image: int, text: int) -> int:
    """Return the number of vectors that pass a layer in one step."""
    if "norm" in name or name.startswith("time_text_embed"):
        return 1
    if name.startswith("single_"):
        return image + text
    return text if "add_" in name or "context" in name else image


def pipeline_of(scale: Scale) -> Any:
    """Return a pipeline of a transformer alone; the other parts are unused."""
    with torch.device(scale.device):
        torch.manual_seed(1)
        before = torch.get_default_dtype()
        torch.set_default_dtype(scale.dtype)
        transformer = FluxTransformer2DModel(
            num_attention_heads=scale.heads,
            attention_head_dim=scale.head_dim,
            joint_attention_dim=scale.text_width,
            pooled_projection_dim=min(scale.text_width, 768),
            guidance_embeds=True,
            axes_dims_rope=(scale.head_dim // 8, *[scale.head_dim * 7 // 16] * 2),
        )
        torch.set_default_dtype(before)
    absent = dict.fromkeys(("scheduler", "vae", "text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2"))
    return FluxPipeline(transformer=transformer.eval(), **absent)


def inputs(scale: Scale) -> dict[str, Any]:
    image, text = scale.tokens
    like: dict[str, Any] = {"device": scale.device, "dtype": scale.dtype}
    return {
        "hidden_states": torch.randn(1, image, 64, **like),
        "encoder_hidden_states": torch.randn(1, text, scale.text_width, **like),
        "pooled_projections": torch.randn(1, min(scale.text_width, 768), **like),
        "timestep": torch.tensor([0.5], **like),
        "guidance": torch.tensor([3.5], device=scale.device),
        "img_ids": torch.zeros(image, 3, **like),
        "txt_ids": torch.zeros(text, 3, **like),
        "return_dict": False,
    }


def write_lora(path: Path, card: ModelCard, scale: Scale, seed: int) -> LoraSelection:
    """Write a LoRA on attention and feed-forward of every block: the 418 layers that trainers adapt."""
    from safetensors.torch import save_file

    random = torch.Generator().manual_seed(seed)
    tensors = {}
    for name, (inside, outside) in card.linears().items():
        if "blocks." not in name or "norm" in name:
            continue
        down = torch.randn(_RANK, inside, generator=random) / inside**0.5
        up = torch.randn(outside, _RANK, generator=random) * 0.05
        tensors[f"transformer.{name}.lora_A.weight"] = down.to(scale.dtype)
        tensors[f"transformer.{name}.lora_B.weight"] = up.to(scale.dtype)
    save_file(tensors, path)
    return LoraSelection(f"lora{seed}", path, 0.8)


def load(pipeline: Any, selections: list[LoraSelection] | Selections) -> None:
    pipeline.unload_lora_weights()
    for one in selections:
        pipeline.load_lora_weights(str(one.path), adapter_name=one.name, use_safetensors=True)


def activate(pipeline: Any, selections: Selections) -> None:
    pipeline.set_adapters([one.name for one in selections], [one.weight for one in selections])


def reload(pipeline: Any, selections: Selections) -> None:
    load(pipeline, selections)
    activate(pipeline, selections)


def milliseconds(scale: Scale, work: Callable[[], object]) -> float:
    finish(scale)
    start = time.perf_counter()
    work()
    finish(scale)
    return (time.perf_counter() - start) * 1000


def finish(scale: Scale) -> None:
    """Wait until the device is idle."""
    if scale.device.type == "cuda":
        torch.cuda.synchronize(scale.device)


if __name__ == "__main__":
    main()
