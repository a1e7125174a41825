"""A linear layer with buffers for LoRAs: y = W x + b + U D x, with D and U of a fixed rank at fixed addresses.

S-LoRA (arXiv:2311.03285) and Punica (arXiv:2310.18547) batch many LoRAs over one base in this unmerged form. Here the
LoRAs of one request are concatenated along the rank, so that any number of them costs one pair of products.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

__all__ = ["LoraLinear", "LoraSwitch", "Room", "install"]


@dataclass(slots=True)
class LoraSwitch:
    """Turns LoRAs on and off for a whole model: compiled code has two variants of a layer, never more."""

    active: bool = False


@dataclass(frozen=True, slots=True)
class Room:
    """A layer's two matrices: `down` (rank, in) and `up` (rank, out), both with the rank's rows far apart."""

    down: torch.Tensor
    up: torch.Tensor


class LoraLinear(nn.Linear):
    """Takes the place of a linear layer and shares its parameters, under the same names.

    The two matrices are plain attributes: they are not part of the model's state, and moving or offloading the model
    must not move them, or a compiled graph would see other addresses.
    """

    def __init__(self, base: nn.Linear, room: Room, switch: LoraSwitch) -> None:
        super().__init__(base.in_features, base.out_features, bias=base.bias is not None, device="meta")
        self.weight = base.weight
        self.bias = base.bias
        self.train(base.training)
        self.lora_down = room.down
        self.lora_up = room.up
        self.lora_switch = switch

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002 - as the base class calls it
        """(…, in) → (…, out). With the switch off this is the base layer, to the last bit."""
        output = functional.linear(input, self.weight, self.bias)
        if self.lora_switch.active:
            low = functional.linear(input, self.lora_down)
            output.view(-1, self.out_features).addmm_(low.view(-1, low.shape[-1]), self.lora_up)
        return output


def install(model: nn.Module, rooms: Mapping[str, Room], switch: LoraSwitch) -> None:
    """Replace every layer that has a `Room` by a `LoraLinear`.

    Call it when the base weights have their final form (quantised or not) and before hooks are attached to modules.

    Raises:
        ValueError: a layer has another class, as some quantisations give it; `lora_rank: 0` leaves the layers alone.
    """
    for name, room in rooms.items():
        base = model.get_submodule(name)
        if type(base) is not nn.Linear:
            raise ValueError(f"lora_rank: {name} is a {type(base).__name__}, which has no room for LoRAs; set it to 0")
        for matrix in (room.down, room.up):
            torch._dynamo.mark_static_address(matrix)
        model.set_submodule(name, LoraLinear(base, room, switch), strict=True)
