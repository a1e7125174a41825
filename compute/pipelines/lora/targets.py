"""Maps the layers of a LoRA file to linear layers of diffusers' FLUX, and their rows.

The original FLUX code has one layer where diffusers has three or four: queries, keys and values, and in the single
blocks the first half of the feed-forward as well. Such a layer's up matrix is split by rows; its down matrix serves
all.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import accumulate, pairwise

from compute.lora.model_card import ModelCard, Naming

__all__ = ["Target", "targets"]


@dataclass(frozen=True, slots=True)
class Target:
    """A linear layer by diffusers' name, and the rows [begin, end) of the file's up matrix that belong to it.

    `swapped`: the halves of those rows are swapped, since one code has the shift first and the other the scale.
    """

    layer: str
    begin: int
    end: int
    swapped: bool = False


_ATTENTION = {
    "img": (("to_q", "to_k", "to_v"), "to_out.0", "ff", "norm1"),
    "txt": (("add_q_proj", "add_k_proj", "add_v_proj"), "to_add_out", "ff_context", "norm1_context"),
}
_EMBEDDERS = {"time_in": "timestep", "vector_in": "text", "guidance_in": "guidance"}


def targets(naming: Naming, card: ModelCard) -> dict[str, tuple[Target, ...]]:
    """The targets of every layer that a file with these names may change."""
    base: Naming = "diffusers" if naming.startswith("diffusers") else "xlabs" if naming == "xlabs" else "original"
    outputs = {name: out for name, (_, out) in card.linears().items()}
    table: dict[str, tuple[Target, ...]] = {}
    for name in card.linears_named(base):
        layers = _RULES[base](name)
        ends = list(accumulate((outputs[layer] for layer in layers), initial=0))
        key = name.replace(".", "_") if naming.endswith("_flat") else name
        swapped = name == "final_layer.adaLN_modulation.1"
        table[key] = tuple(
            Target(layer, begin, end, swapped) for layer, (begin, end) in zip(layers, pairwise(ends), strict=True)
        )
    return table


def _diffusers(name: str) -> tuple[str, ...]:
    return (name,)


def _original(name: str) -> tuple[str, ...]:
    head, _, rest = name.partition(".")
    if head == "double_blocks":
        return tuple(_double(*rest.split(".", 1)))
    if head == "single_blocks":
        index, layer = rest.split(".", 1)
        block = f"single_transformer_blocks.{index}"
        inner = {
            "linear1": ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp"),
            "linear2": ("proj_out",),
            "modulation.lin": ("norm.linear",),
        }[layer]
        return tuple(f"{block}.{one}" for one in inner)
    if head in _EMBEDDERS:
        number = {"in_layer": 1, "out_layer": 2}[rest]
        return (f"time_text_embed.{_EMBEDDERS[head]}_embedder.linear_{number}",)
    whole = {
        "img_in": "x_embedder",
        "txt_in": "context_embedder",
        "final_layer.linear": "proj_out",
        "final_layer.adaLN_modulation.1": "norm_out.linear",
    }
    return (whole[name],)


def _double(index: str, layer: str) -> Iterator[str]:
    qkv, out, feed, norm = _ATTENTION[layer[:3]]
    inner = {
        "attn.qkv": tuple(f"attn.{name}" for name in qkv),
        "attn.proj": (f"attn.{out}",),
        "mlp.0": (f"{feed}.net.0.proj",),
        "mlp.2": (f"{feed}.net.2",),
        "mod.lin": (f"{norm}.linear",),
    }[layer[4:]]
    return (f"transformer_blocks.{index}.{one}" for one in inner)


def _xlabs(name: str) -> tuple[str, ...]:
    kind, index, _, layer = name.split(".")
    if kind == "single_blocks":
        inner = ("attn.to_q", "attn.to_k", "attn.to_v") if layer == "qkv_lora" else ("proj_out",)
        return tuple(f"single_transformer_blocks.{index}.{one}" for one in inner)
    stream = "img" if layer.endswith("1") else "txt"
    return tuple(_double(index, f"{stream}_attn.{'qkv' if layer.startswith('qkv') else 'proj'}"))


_RULES: dict[Naming, Callable[[str], tuple[str, ...]]] = {
    "diffusers": _diffusers,
    "original": _original,
    "xlabs": _xlabs,
}
