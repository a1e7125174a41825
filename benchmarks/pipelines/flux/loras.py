"""The LoRA part of `benchmarks.pipelines.flux.speed`: cost of four LoRAs of rank 16 per forward, and of a switch."""

import time
from collections.abc import Callable
from typing import Any

import torch

from benchmarks.harness import interleave, print_table, ratio, spread
from benchmarks.pipelines.flux.models import Scale, same_weights
from compute.lora.check import ModelCard
from compute.pipelines.acceleration.attention import set_attention
from compute.pipelines.acceleration.compilation import CompiledBlocks, example_inputs
from compute.pipelines.config import ModelConfig
from compute.pipelines.lora.buffers import FlatLora, LoraBuffers, RowLayout, Slot
from compute.pipelines.lora.linear import install

__all__ = ["report_loras"]

_RANK = 16
_PER_REQUEST = 4
_FORWARDS = 10


def report_loras(transformer: Any, scale: Scale, device: torch.device, config: ModelConfig) -> None:
    """Print both figures for compiled blocks on this model's weights."""
    base, with_loras = same_weights(transformer), same_weights(transformer)
    card = ModelCard.from_config(transformer.config)
    layout = RowLayout(card.linears())
    buffers = LoraBuffers(layout, rank=_PER_REQUEST * _RANK, device=device, dtype=scale.dtype)
    install(with_loras, buffers.rooms(), buffers.switch)
    for model in (base, with_loras):
        set_attention(model, config.attention)
        CompiledBlocks(model, config)
    sets = [[_slot(layout, scale, device, index + offset) for index in range(_PER_REQUEST)] for offset in (0, 4)]
    _report_forward(base, with_loras, buffers, sets[0], scale, device)
    _report_switch(buffers, sets, device)


def _slot(layout: RowLayout, scale: Scale, device: torch.device, number: int) -> Slot:
    random = torch.Generator("cpu").manual_seed(number)
    rows = [torch.randn(_RANK, width, generator=random) * 0.01 for width in (layout.down_width, layout.up_width)]
    down, up = (row.to(scale.dtype) for row in rows)
    if device.type == "cuda":
        down, up = (row.pin_memory() for row in (down, up))
    return Slot(f"lora-{number}", 0.8, FlatLora(down, up, {}))


def _report_forward(
    base: Any, with_loras: Any, buffers: LoraBuffers, slots: list[Slot], scale: Scale, device: torch.device
) -> None:
    inputs = example_inputs(
        base, image_tokens=scale.image_tokens, text_tokens=scale.text_tokens, device=device, dtype=scale.dtype
    )

    def forwards(model: Any, acting: list[Slot]) -> float:
        buffers.fill(acting)
        with torch.no_grad():
            model(**inputs)
            _synchronize(device)
            began = time.perf_counter()
            for _ in range(_FORWARDS):
                model(**inputs)
            _synchronize(device)
        return (time.perf_counter() - began) / _FORWARDS * 1000

    arms: dict[str, Callable[[], float]] = {
        "no LoRA layers": lambda: forwards(base, []),
        "layers, no LoRA": lambda: forwards(with_loras, []),
        "4 LoRAs of rank 16": lambda: forwards(with_loras, slots),
    }
    for arm in arms.values():
        arm()
    times = interleave(arms, 5)
    rows = [[name, spread(values, 2), ratio(values, times["no LoRA layers"])] for name, values in times.items()]
    print_table("one compiled forward (target 1.06x)", ["", "ms", "of the base"], rows)


def _report_switch(buffers: LoraBuffers, sets: list[list[Slot]], device: torch.device) -> None:
    near = [[Slot(slot.name, slot.weight, slot.lora.to(device)) for slot in slots] for slots in sets]

    def switches(choices: list[list[Slot]]) -> list[float]:
        times = []
        for number in range(20):
            _synchronize(device)
            began = time.perf_counter()
            buffers.fill(choices[number % 2])
            _synchronize(device)
            times.append((time.perf_counter() - began) * 1000)
        return times[2:]

    rows = [["from main memory", spread(switches(sets), 2)], ["from the device", spread(switches(near), 2)]]
    print_table("switching 4 LoRAs of rank 16 (target 30 ms)", ["", "ms"], rows)


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
