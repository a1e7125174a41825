"""A FLUX.1-dev with random weights, for the training benchmarks: `python -m benchmarks.training.model FOLDER`.

Writes a model folder in diffusers' layout, in bfloat16: the transformer (19 + 38 blocks, 12 billion parameters), the
VAE and CLIP of the real configuration and sizes, T5 with the real widths but, unless `--text-layers 24` is given, only
two layers, since no trainer trains it, and tokenizers with a token per character. Random weights do not change the
duration or the memory of a step; they tell nothing about image quality. Weights are made on the GPU, if there is one,
and written to several files at once: 24 GB, best to a folder in main memory (/dev/shm).

`--layers 2 4` makes a shallower transformer of the same widths, to try everything on a CPU.
"""

import argparse
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from diffusers import FluxPipeline
from huggingface_hub import split_torch_state_dict_into_shards
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel

from benchmarks.pipelines.flux.models import LARGE, new_pipeline, new_transformer
from compute.pipelines.tiny.text import clip_tokenizer, t5_tokenizer

__all__ = ["build_model"]

_LAYERS = (19, 38)
_TEXT_LAYERS = 2
_REAL_TEXT_LAYERS = 24
_SHARD_BYTES = 2**30
_WRITERS = 8
_SHARD_NAME = "diffusion_pytorch_model{suffix}.safetensors"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="the model's folder; it must not exist yet")
    parser.add_argument(
        "--layers", type=int, nargs=2, default=_LAYERS, metavar=("DOUBLE", "SINGLE"), help="blocks (19 38)"
    )
    parser.add_argument("--text-layers", type=int, default=_TEXT_LAYERS, help="layers of T5 (2; the real one has 24)")
    options = parser.parse_args()
    if options.folder.exists():
        parser.error(f"{options.folder} already exists")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    began = time.perf_counter()
    double, single = options.layers
    parameters = build_model(options.folder, device, layers=(double, single), text_layers=options.text_layers)
    size = sum(path.stat().st_size for path in options.folder.rglob("*") if path.is_file())
    print(
        f"{options.folder}: transformer of {double} + {single} blocks, {parameters / 1e9:.2f} billion parameters;"
        f" {size / 1e9:.1f} GB in {time.perf_counter() - began:.1f} s, made on {device.type}",
        flush=True,
    )
    if options.text_layers != _REAL_TEXT_LAYERS:
        print(
            f"T5 has {options.text_layers} layers of the real width and not {_REAL_TEXT_LAYERS}: a trainer that keeps"
            " it on the device or encodes prompts in its steps looks better than with the real one.",
            flush=True,
        )


def build_model(folder: Path, device: torch.device, *, layers: tuple[int, int], text_layers: int) -> int:
    """Write the model to `folder` and return the number of its transformer's parameters.

    Args:
        layers: Double and single blocks of the transformer; FLUX.1-dev has 19 and 38.
        text_layers: Layers of T5; the real one has 24.
    """
    sizes = {**LARGE.transformer, "num_layers": layers[0], "num_single_layers": layers[1]}
    scale = replace(LARGE, transformer=sizes)
    transformer = new_transformer(scale, device)
    torch.manual_seed(0)
    plain = new_pipeline(transformer, scale, device)
    clip, t5 = clip_tokenizer(), t5_tokenizer()
    with _made_on(device):
        parts: dict[str, Any] = {
            "scheduler": plain.scheduler,
            "vae": plain.vae,
            "text_encoder": _clip(clip),
            "text_encoder_2": _t5(t5, text_layers),
            "tokenizer": clip,
            "tokenizer_2": t5,
        }
    FluxPipeline(transformer=transformer, **parts).save_config(folder)
    for name, part in parts.items():
        part.save_pretrained(folder / name)
    _save_transformer(transformer, folder / "transformer")
    return sum(parameter.numel() for parameter in transformer.parameters())


@contextmanager
def _made_on(device: torch.device) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device(device):
            yield
    finally:
        torch.set_default_dtype(before)


def _clip(tokenizer: Any) -> CLIPTextModel:
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=768,
            intermediate_size=3072,
            projection_dim=768,
            num_hidden_layers=12,
            num_attention_heads=12,
            max_position_embeddings=77,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def _t5(tokenizer: Any, layers: int) -> T5EncoderModel:
    return T5EncoderModel(
        T5Config(
            vocab_size=len(tokenizer),
            d_model=4096,
            d_kv=64,
            d_ff=10240,
            num_layers=layers,
            num_heads=64,
            feed_forward_proj="gated-gelu",
            tie_word_embeddings=False,
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
    )


def _save_transformer(model: Any, folder: Path) -> None:
    """Save like `save_pretrained`, but write the files concurrently: one after the other takes most of a minute."""
    model.save_config(folder)
    weights = model.state_dict()
    plan = split_torch_state_dict_into_shards(weights, filename_pattern=_SHARD_NAME, max_shard_size=_SHARD_BYTES)

    def save(name: str) -> None:
        shard = {key: weights[key].cpu() for key in plan.filename_to_tensors[name]}
        save_file(shard, folder / name, metadata={"format": "pt"})

    with ThreadPoolExecutor(_WRITERS) as writers:
        list(writers.map(save, plan.filename_to_tensors))
    if plan.is_sharded:
        index = {"metadata": plan.metadata, "weight_map": plan.tensor_to_filename}
        (folder / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(index, indent=2))


if __name__ == "__main__":
    main()
