"""Compiles a transformer's repeated blocks with torch.compile, and keeps compiled code in a folder across replicas.

Regional compilation: 57 blocks of FLUX.1 are of two kinds, so a few graphs serve them all and compile in a fraction of
the whole model's time (the idea of diffusers' `compile_repeated_blocks`). Each block's own `forward` is compiled, below
diffusers' hooks, and not the call around them: a step cache decides in Python, outside the graphs.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch

from compute.pipelines.acceleration.attention import traces_whole
from compute.pipelines.config import ModelConfig
from compute.settings import get_settings

__all__ = ["CompiledBlocks", "example_inputs", "keep_compiled_code"]

# Dimensions that vary between requests: tokens of the image, of the prompt, and of both in the rotary tables.
_TOKENS = {"hidden_states": 1, "encoder_hidden_states": 1, "image_rotary_emb": 0}


class CompiledBlocks:
    """The repeated blocks of a diffusers transformer, compiled as configured or left uncompiled."""

    def __init__(self, transformer: Any, config: ModelConfig) -> None:
        """Wrap the blocks' `forward`; compilation happens at their first run.

        Construct it before a step cache hooks the blocks. Layers inside may still be replaced until the first run.
        """
        self._eager = False
        if config.compile == "off":
            return
        keep_compiled_code(config)
        for block in transformer.modules():
            if type(block).__name__ in transformer._repeated_blocks:
                block.forward = partial(self._run, block.forward, _compiled(block.forward, config))
        if config.compile == "reduce-overhead":
            # Every block reads the previous block's output in the graphs' memory: all of them are one iteration.
            transformer.register_forward_pre_hook(lambda *_: torch.compiler.cudagraph_mark_step_begin())

    @contextmanager
    def as_they_are(self, wanted: bool) -> Iterator[None]:
        """Within the block, if `wanted`, run the transformer's blocks uncompiled.

        For temporary layers (PEFT): each change would recompile everything, which takes longer than a run.
        """
        self._eager = wanted
        try:
            yield
        finally:
            self._eager = False

    def _run(self, forward: Callable[..., Any], compiled: Callable[..., Any], *args: Any, **inputs: Any) -> Any:
        if self._eager:
            return forward(*args, **inputs)
        # Not `dynamic=True`, which would also make the model's own numbers (widths, heads, epsilons) symbols.
        for name, dimension in _TOKENS.items():
            value = inputs.get(name)
            for tensor in value if isinstance(value, tuple) else (value,):
                if tensor is not None:
                    torch._dynamo.maybe_mark_dynamic(tensor, dimension)
        return compiled(*args, **inputs)


def keep_compiled_code(config: ModelConfig) -> Path:
    """Let this process store and find compiled code in the configured folder, which is created if necessary.

    The files are checked against the versions of PyTorch and Triton, the device and the code they were compiled from.
    They are loaded as code, so the folder belongs to its owner alone.
    """
    folder = config.compile_cache or get_settings().cache_root / "compile"
    for variable, name in (("TORCHINDUCTOR_CACHE_DIR", "inductor"), ("TRITON_CACHE_DIR", "triton")):
        (folder / name).mkdir(mode=0o700, parents=True, exist_ok=True)
        # Set in any case: PyTorch itself sets a temporary folder when it is imported.
        os.environ[variable] = str(folder / name)
    return folder


def example_inputs(
    transformer: Any, *, image_tokens: int, text_tokens: int, device: torch.device, dtype: torch.dtype
) -> dict[str, Any]:
    """Arguments for one forward of a FLUX transformer, like those of diffusers' pipelines; noise from a fixed seed.

    An image has a token per 16x16 pixels.
    """
    random = torch.Generator("cpu").manual_seed(0)

    def noise(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=random).to(device=device, dtype=dtype)

    sizes = transformer.config
    return {
        "hidden_states": noise(1, image_tokens, sizes.in_channels),
        "encoder_hidden_states": noise(1, text_tokens, sizes.joint_attention_dim),
        "pooled_projections": noise(1, sizes.pooled_projection_dim),
        "timestep": torch.full((1,), 0.5, device=device, dtype=dtype),
        "guidance": torch.full((1,), 3.5, device=device) if sizes.guidance_embeds else None,
        "img_ids": torch.zeros(image_tokens, 3, device=device, dtype=dtype),
        "txt_ids": torch.zeros(text_tokens, 3, device=device, dtype=dtype),
        "joint_attention_kwargs": {},
        "return_dict": False,
    }


def _compiled(forward: Callable[..., Any], config: ModelConfig) -> Callable[..., Any]:
    mode = None if config.compile == "default" else config.compile
    return torch.compile(forward, mode=mode, fullgraph=traces_whole(config.attention))
