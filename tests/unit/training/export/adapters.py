"""Shared by the tests of finished LoRAs: a spec, and adapters as PEFT has them after a training."""

from typing import Any
from uuid import UUID

import torch
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict

from compute.training.spec import DataSpec, ModelSpec, TrainingSpec

Adapter = dict[str, torch.Tensor]


def spec_of(family: str = "flux", **fields: Any) -> TrainingSpec:
    """A training of a tiny model of this family."""
    chosen: dict[str, Any] = {"output_name": "red-dress", "trigger_word": "r3d dress", "steps": 10, "rank": 4}
    model = ModelSpec(name=f"tiny-{family}", source=f"tiny-{family}", family=family, resolution=64)
    return TrainingSpec(id=UUID(int=6), model=model, data=DataSpec(), **(chosen | fields))


def adapt(module: Any, spec: TrainingSpec, targets: list[str], *, strength: float = 0.3) -> Adapter:
    """Give a network a LoRA with random halves, as large a change as `strength` of its layers; the state as PEFT
    gives it."""
    alpha = spec.alpha or spec.rank
    module.add_adapter(LoraConfig(r=spec.rank, lora_alpha=alpha, target_modules=targets))
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, weight in module.named_parameters():
            if ".lora_A." in name:
                weight.normal_(0.0, weight.shape[1] ** -0.5, generator=random)
            elif ".lora_B." in name:
                weight.normal_(0.0, strength * spec.rank**0.5 / alpha, generator=random)
    state: Adapter = get_peft_model_state_dict(module)
    return state


def pair(rank: int = 4, width: int = 64, layer: str = "transformer_blocks.0.attn.to_q", value: float = 0.5) -> Adapter:
    """An adapter of one layer."""
    return {
        f"{layer}.lora_A.weight": torch.full((rank, width), value),
        f"{layer}.lora_B.weight": torch.full((width, rank), value),
    }
