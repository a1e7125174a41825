"""The names under which programs write LoRA tensors, as diffusers' FLUX loader reads them.

diffusers, ai-toolkit   transformer.transformer_blocks.0.attn.to_q.lora_A.weight
peft                    base_model.model.transformer_blocks.0.attn.to_q.lora_A.weight, or without a prefix
kohya                   lora_unet_double_blocks_0_img_attn_qkv.lora_down.weight, .lora_up.weight, .alpha
onetrainer              lora_transformer_transformer_blocks_0_attn_to_q.lora_down.weight
comfyui                 diffusion_model.double_blocks.0.img_attn.qkv.lora_down.weight
fal                     base_model.model.double_blocks.0.img_attn.qkv.lora_A.weight
xlabs                   double_blocks.0.processor.qkv_lora1.down.weight
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from compute.storage.model_card import Naming

__all__ = ["LoraLayer", "LoraLayout", "NotALora", "describe_layers"]


class NotALora(ValueError):
    """The tensors are no LoRA, or none that can be applied; the message says why."""


class LoraLayout(StrEnum):
    """Which program's names a LoRA carries."""

    DIFFUSERS = "diffusers"
    PEFT = "peft"
    KOHYA = "kohya"
    ONETRAINER = "onetrainer"
    COMFYUI = "comfyui"
    FAL = "fal"
    XLABS = "xlabs"

    @property
    def naming(self) -> Naming:
        return _NAMING[self]


_NAMING: dict[LoraLayout, Naming] = {
    LoraLayout.DIFFUSERS: "diffusers",
    LoraLayout.PEFT: "diffusers",
    LoraLayout.KOHYA: "original_flat",
    LoraLayout.ONETRAINER: "diffusers_flat",
    LoraLayout.COMFYUI: "original",
    LoraLayout.FAL: "original",
    LoraLayout.XLABS: "xlabs",
}


@dataclass(frozen=True, slots=True)
class LoraLayer:
    """One adapted linear layer: in_features → rank → out_features."""

    in_features: int
    rank: int
    out_features: int


# Order matters: the first pattern that matches decides.
_PREFIXES: tuple[tuple[re.Pattern[str], LoraLayout], ...] = (
    (re.compile(r"transformer\.(?=\w)"), LoraLayout.DIFFUSERS),
    (re.compile(r"base_model\.model\.(?=(single_)?transformer_blocks\.)"), LoraLayout.PEFT),
    (re.compile(r"base_model\.model\."), LoraLayout.FAL),
    (re.compile(r"lora_unet_(?=(double|single)_blocks_|img_in|txt_in|time_in|vector_in|guidance_in|final_layer)"),
     LoraLayout.KOHYA),
    (re.compile(r"lora_transformer_"), LoraLayout.ONETRAINER),
    (re.compile(r"(diffusion_model\.)?(?=(double|single)_blocks\.\d+\.processor\.)"), LoraLayout.XLABS),
    (re.compile(r"diffusion_model\.(?=(double|single)_blocks\.|\w+_in\b|final_layer\.)"), LoraLayout.COMFYUI),
    (re.compile(r"(?=(single_)?transformer_blocks\.\d+\.(attn|ff|norm|proj))"), LoraLayout.PEFT),
)  # fmt: skip
_TEXT_ENCODER = re.compile(r"(lora_te\d?_|text_encoder(_2)?\.|text_encoders\.)")
_UNET = re.compile(r"(^|[._])(down_blocks|up_blocks|mid_block|input_blocks|output_blocks|middle_block)[._]")
_DOWN = re.compile(r"[._](lora_A|lora_down|lora\.down|down)(\.default)?\.weight$")
_UP = re.compile(r"[._](lora_B|lora_up|lora\.up|up)(\.default)?\.weight$")
_OTHER_METHODS = {"dora_scale": "DoRA", "hada_w": "LoHa", "lokr_w": "LoKr", "oft_": "OFT"}
_CONTROL = re.compile(r"norm_(added_)?[qk]\.|(query|key)_norm\.scale")
# What diffusers' loader drops on purpose.
_IGNORED = re.compile(r"(\.alpha|\.diff|\.diff_b)$")


def describe_layers(shapes: Mapping[str, tuple[int, ...]]) -> tuple[LoraLayout, dict[str, LoraLayer], bool]:
    """Recognise the layout and pair the tensors.

    Returns:
        The layout, the transformer's layers by the name without prefix and suffix, and whether tensors of a text
        encoder are there as well.

    Raises:
        NotALora: saying what it is instead, as far as the names tell.
    """
    _refuse_other_methods(shapes)
    transformer = [name for name in shapes if not _TEXT_ENCODER.match(name)]
    if not any(_DOWN.search(name) for name in transformer):
        raise NotALora("not a LoRA: it has no pair of low-rank tensors (lora_A and lora_B, or lora_down and lora_up)")
    if any(_UNET.search(name) for name in transformer):
        raise NotALora("made for another model: its layers are those of a UNet (Stable Diffusion), not of FLUX")
    layout = _layout(transformer)
    layers = _pair({name: shapes[name] for name in transformer}, layout)
    return layout, layers, len(transformer) < len(shapes)


def _refuse_other_methods(names: Mapping[str, object]) -> None:
    for name in names:
        for mark, method in _OTHER_METHODS.items():
            if mark in name:
                raise NotALora(f"{method} files are not supported, only plain LoRA ({name!r})")
        if _CONTROL.search(name):
            # diffusers would overwrite the base model's own norms with these, for every later request too.
            raise NotALora(f"control LoRAs are not supported: it replaces layers of the model ({name!r})")


def _layout(names: list[str]) -> LoraLayout:
    found = {_match(name)[0] for name in names if not _IGNORED.search(name)}
    if len(found) > 1:
        raise NotALora(f"its tensor names mix the layouts {', '.join(sorted(found))}")
    return found.pop()


def _match(name: str) -> tuple[LoraLayout, str]:
    for prefix, layout in _PREFIXES:
        match = prefix.match(name)
        if match:
            return layout, name[match.end() :]
    raise NotALora(f"made for another model: FLUX has no layer for {name!r}")


def _pair(shapes: Mapping[str, tuple[int, ...]], layout: LoraLayout) -> dict[str, LoraLayer]:
    downs: dict[str, tuple[int, ...]] = {}
    ups: dict[str, tuple[int, ...]] = {}
    for name, shape in shapes.items():
        if _IGNORED.search(name):
            continue
        rest = _match(name)[1]
        if match := _DOWN.search(rest):
            downs[rest[: match.start()]] = shape
        elif match := _UP.search(rest):
            ups[rest[: match.start()]] = shape
        else:
            raise NotALora(f"not a plain LoRA: {name!r} is neither half of a low-rank pair ({layout} layout)")
    return {name: _layer(name, downs.get(name), ups.get(name)) for name in sorted(downs.keys() | ups.keys())}


def _layer(name: str, down: tuple[int, ...] | None, up: tuple[int, ...] | None) -> LoraLayer:
    if down is None or up is None:
        raise NotALora(f"layer {name!r} has only one half of its low-rank pair")
    if len(down) != 2 or len(up) != 2 or down[0] != up[1] or 0 in (*down, *up):
        raise NotALora(f"layer {name!r} has halves that do not fit: {list(down)} and {list(up)}")
    return LoraLayer(in_features=down[1], rank=down[0], out_features=up[0])
