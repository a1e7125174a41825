"""The dimensions of a diffusers FLUX model, read from its JSON configuration alone."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

__all__ = ["ModelCard", "Naming", "read_model_card"]

Naming = Literal["diffusers", "original", "diffusers_flat", "original_flat", "xlabs"]
"""The naming of layers: diffusers' or the original FLUX code's; flat has `_` instead of `.`."""

Shape = tuple[int, int]

_CONFIG = "transformer/config.json"
_TIME_FREQUENCIES = 256


@dataclass(frozen=True, slots=True)
class ModelCard:
    """The dimensions that decide which LoRAs fit a FLUX transformer.

    Attributes:
        inner_dim: Width of the transformer (num_attention_heads * attention_head_dim).
        joint_attention_dim: Width of the T5 embeddings.
        pooled_projection_dim: Width of the pooled CLIP embedding.
        in_channels: Channels of a packed latent patch.
        num_layers: Double-stream blocks.
        num_single_layers: Single-stream blocks.
        guidance_embeds: Whether guidance is an input, as in FLUX.1-dev.
        out_channels: Channels of a generated patch; `in_channels` if None. FLUX.1 Fill reads more than it generates.
    """

    inner_dim: int
    joint_attention_dim: int
    pooled_projection_dim: int
    in_channels: int
    num_layers: int
    num_single_layers: int
    guidance_embeds: bool
    out_channels: int | None = None

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "ModelCard":
        """Create it from a transformer's config.json.

        Raises:
            KeyError: a dimension is missing.
        """
        return cls(
            inner_dim=int(config["num_attention_heads"]) * int(config["attention_head_dim"]),
            joint_attention_dim=int(config["joint_attention_dim"]),
            pooled_projection_dim=int(config["pooled_projection_dim"]),
            in_channels=int(config["in_channels"]),
            num_layers=int(config["num_layers"]),
            num_single_layers=int(config["num_single_layers"]),
            guidance_embeds=bool(config.get("guidance_embeds", False)),
            out_channels=config.get("out_channels"),
        )

    def linears(self) -> dict[str, Shape]:
        """(in_features, out_features) of every linear layer, by diffusers' names."""
        return _diffusers_linears(self)

    def linears_named(self, naming: Naming) -> dict[str, Shape]:
        """The layers by another program's names; qkv projections may be one layer there."""
        flat = naming.endswith("_flat")
        table = _TABLES[naming.removesuffix("_flat")](self)
        return {name.replace(".", "_"): shape for name, shape in table.items()} if flat else table


def _embedders(card: ModelCard) -> list[tuple[str, int]]:
    names = [("timestep", _TIME_FREQUENCIES), ("text", card.pooled_projection_dim)]
    return [*names, ("guidance", _TIME_FREQUENCIES)] if card.guidance_embeds else names


def _diffusers_linears(card: ModelCard) -> dict[str, Shape]:
    d = card.inner_dim
    table: dict[str, Shape] = {
        "x_embedder": (card.in_channels, d),
        "context_embedder": (card.joint_attention_dim, d),
        "norm_out.linear": (d, 2 * d),
        "proj_out": (d, card.out_channels or card.in_channels),
    }
    for name, width in _embedders(card):
        table[f"time_text_embed.{name}_embedder.linear_1"] = (width, d)
        table[f"time_text_embed.{name}_embedder.linear_2"] = (d, d)
    attention = ("to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out")
    for index in range(card.num_layers):
        block = f"transformer_blocks.{index}"
        table |= {f"{block}.attn.{name}": (d, d) for name in attention}
        for norm, feed in (("norm1", "ff"), ("norm1_context", "ff_context")):
            table[f"{block}.{norm}.linear"] = (d, 6 * d)
            table[f"{block}.{feed}.net.0.proj"] = (d, 4 * d)
            table[f"{block}.{feed}.net.2"] = (4 * d, d)
    for index in range(card.num_single_layers):
        block = f"single_transformer_blocks.{index}"
        table |= {f"{block}.attn.{name}": (d, d) for name in ("to_q", "to_k", "to_v")}
        table[f"{block}.norm.linear"] = (d, 3 * d)
        table[f"{block}.proj_mlp"] = (d, 4 * d)
        table[f"{block}.proj_out"] = (5 * d, d)
    return table


def _original_linears(card: ModelCard) -> dict[str, Shape]:
    d = card.inner_dim
    table: dict[str, Shape] = {
        "img_in": (card.in_channels, d),
        "txt_in": (card.joint_attention_dim, d),
        "final_layer.linear": (d, card.out_channels or card.in_channels),
        "final_layer.adaLN_modulation.1": (d, 2 * d),
    }
    original_names = {"timestep": "time_in", "text": "vector_in", "guidance": "guidance_in"}
    for name, width in _embedders(card):
        table[f"{original_names[name]}.in_layer"] = (width, d)
        table[f"{original_names[name]}.out_layer"] = (d, d)
    for index in range(card.num_layers):
        for stream in ("img", "txt"):
            block = f"double_blocks.{index}.{stream}"
            table[f"{block}_attn.qkv"] = (d, 3 * d)
            table[f"{block}_attn.proj"] = (d, d)
            table[f"{block}_mlp.0"] = (d, 4 * d)
            table[f"{block}_mlp.2"] = (4 * d, d)
            table[f"{block}_mod.lin"] = (d, 6 * d)
    for index in range(card.num_single_layers):
        table[f"single_blocks.{index}.linear1"] = (d, 7 * d)
        table[f"single_blocks.{index}.linear2"] = (5 * d, d)
        table[f"single_blocks.{index}.modulation.lin"] = (d, 3 * d)
    return table


def _xlabs_linears(card: ModelCard) -> dict[str, Shape]:
    d = card.inner_dim
    table: dict[str, Shape] = {}
    for index in range(card.num_layers):
        for stream in (1, 2):
            table[f"double_blocks.{index}.processor.qkv_lora{stream}"] = (d, 3 * d)
            table[f"double_blocks.{index}.processor.proj_lora{stream}"] = (d, d)
    for index in range(card.num_single_layers):
        table[f"single_blocks.{index}.processor.qkv_lora"] = (d, 3 * d)
        table[f"single_blocks.{index}.processor.proj_lora"] = (5 * d, d)
    return table


_TABLES: dict[str, Callable[[ModelCard], dict[str, Shape]]] = {
    "diffusers": _diffusers_linears,
    "original": _original_linears,
    "xlabs": _xlabs_linears,
}


def read_model_card(model: str | Path, *, revision: str | None = None) -> ModelCard | None:
    """Read the card of a model, a local diffusers folder or a Hugging Face repository id.

    Reads one small JSON file, from the network if necessary (this blocks). None if it is not available, or not of a
    FLUX transformer: then only a LoRA's own structure can be checked.
    """
    folder = Path(model)
    file = folder / _CONFIG if folder.is_dir() else _from_hub(str(model), revision)
    if file is None or not file.is_file():
        return None
    try:
        config = json.loads(file.read_bytes())
        return ModelCard.from_config(config) if config.get("_class_name") == "FluxTransformer2DModel" else None
    except (AttributeError, KeyError, TypeError, ValueError):
        return None


def _from_hub(repository: str, revision: str | None) -> Path | None:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        return Path(hf_hub_download(repository, _CONFIG, revision=revision))
    except (HFValidationError, HfHubHTTPError, OSError):
        return None
