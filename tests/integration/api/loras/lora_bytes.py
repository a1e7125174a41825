"""LoRA files as users send them: a few tiny layers of FLUX."""

import io

import numpy as np
import torch
from safetensors.numpy import save

LAYER = "transformer.transformer_blocks.0.attn.to_q"


def lora(value: float = 1.0, *, width: int = 64, rank: int = 2) -> bytes:
    """A safetensors file; another `value` is another file of the same size."""
    down = np.full((rank, width), value, np.float16)
    up = np.full((width, rank), value, np.float16)
    return save({f"{LAYER}.lora_A.weight": down, f"{LAYER}.lora_B.weight": up})


def checkpoint(value: float = 1.0, *, width: int = 64, rank: int = 2) -> bytes:
    """The same as a file of PyTorch."""
    buffer = io.BytesIO()
    weights = {"lora_A": torch.full((rank, width), value), "lora_B": torch.full((width, rank), value)}
    torch.save({f"{LAYER}.{name}.weight": tensor for name, tensor in weights.items()}, buffer)
    return buffer.getvalue()
