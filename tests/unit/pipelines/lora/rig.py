"""Shared by the LoRA tests: transformers to compare, an input, and files in every layout."""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import FluxPipeline
from safetensors.torch import save_file

from compute.lora.model_card import ModelCard
from compute.pipelines.lora.switch import StaticLoras
from compute.worker.protocol import LoraSelection

CPU = torch.device("cpu")
RANK = 48
ATTENTION = ("to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out")

Tensors = dict[str, torch.Tensor]


def load_pipeline(folder: Path) -> Any:
    return FluxPipeline.from_pretrained(folder, dtype=torch.float32, use_safetensors=True)


def static_loras(pipeline: Any, **options: Any) -> StaticLoras:
    chosen: dict[str, Any] = {"rank": RANK, "capacity": 8, "device_capacity": 2, "device": CPU, "dtype": torch.float32}
    return StaticLoras(pipeline, **(chosen | options))


@dataclass(frozen=True)
class Rig:
    """A pipeline with static LoRAs, and one without anything to compare it with."""

    pipeline: Any
    loras: StaticLoras
    plain: Any

    @property
    def card(self) -> ModelCard:
        return ModelCard.from_config(self.pipeline.transformer.config)

    def forward(self, selections: Sequence[LoraSelection] = (), tokens: int = 20) -> torch.Tensor:
        self.loras.apply(selections)
        return run(self.pipeline.transformer, tokens)

    def encode_with(self, selections: Sequence[LoraSelection]) -> None:
        """Let them act on the text encoder for a moment."""
        with self.loras.on_text_encoders(selections):
            pass

    def base(self, tokens: int = 20) -> torch.Tensor:
        return run(self.plain.transformer, tokens)

    @contextmanager
    def peft(self, selections: Sequence[LoraSelection]) -> Iterator[Callable[..., torch.Tensor]]:
        """The plain pipeline with these LoRAs loaded by diffusers itself, and a way to run it."""
        with warnings.catch_warnings():
            # PEFT takes a second adapter for a mistake.
            warnings.filterwarnings("ignore", message="Already found a `peft_config` attribute")
            for index, one in enumerate(selections):
                self.plain.load_lora_weights(str(one.path), adapter_name=f"lora{index}", use_safetensors=True)
        weights = [one.weight for one in selections]
        self.plain.set_adapters([f"lora{index}" for index in range(len(selections))], weights)
        try:
            yield lambda tokens=20: run(self.plain.transformer, tokens)
        finally:
            self.plain.unload_lora_weights()


def run(transformer: Any, tokens: int = 20) -> torch.Tensor:
    """One step on inputs that depend on `tokens` alone; (1, tokens, 64)."""
    random = torch.Generator().manual_seed(tokens)
    width = transformer.config.joint_attention_dim
    with torch.no_grad():
        drawn: torch.Tensor = transformer(
            hidden_states=torch.randn(1, tokens, transformer.config.in_channels, generator=random),
            encoder_hidden_states=torch.randn(1, 12, width, generator=random),
            pooled_projections=torch.randn(1, width, generator=random),
            timestep=torch.tensor([0.5]),
            guidance=torch.tensor([3.5]),
            img_ids=torch.rand(tokens, 3, generator=random) * 8,
            txt_ids=torch.zeros(12, 3),
            return_dict=False,
        )[0]
    return drawn


def random_pair(shape: tuple[int, int], rank: int, random: torch.Generator, scale: float = 0.3) -> tuple[Any, Any]:
    """A down matrix (rank, in) and an up matrix (out, rank)."""
    inside, outside = shape
    down = torch.randn(rank, inside, generator=random) / inside**0.5
    return down, torch.randn(outside, rank, generator=random) * (scale / rank**0.5)


def write(path: Path, tensors: Mapping[str, torch.Tensor], weight: float = 1.0, **metadata: str) -> LoraSelection:
    save_file(
        {name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()},
        path,
        metadata=metadata or None,
    )
    return LoraSelection(path.stem, path, weight, field=f"field_{path.stem}")


def make_plain(
    path: Path, card: ModelCard, *, rank: int, weight: float = 1.0, alpha: float | None = None, seed: int = 0
) -> LoraSelection:
    """A LoRA of every layer in diffusers' layout."""
    random = torch.Generator().manual_seed(seed)
    tensors: Tensors = {}
    for name, shape in card.linears().items():
        down, up = random_pair(shape, rank, random)
        tensors[f"transformer.{name}.lora_A.weight"] = down
        tensors[f"transformer.{name}.lora_B.weight"] = up
        if alpha is not None:
            tensors[f"transformer.{name}.alpha"] = torch.tensor(alpha)
    return write(path, tensors, weight)
