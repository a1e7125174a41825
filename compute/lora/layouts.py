"""Layouts of LoRA files: the tensor names of several programs, as diffusers' FLUX and SDXL loaders read them.

diffusers, ai-toolkit   transformer.transformer_blocks.0.attn.to_q.lora_A.weight
peft                    base_model.model.transformer_blocks.0.attn.to_q.lora_A.weight, or without a prefix
kohya                   lora_unet_double_blocks_0_img_attn_qkv.lora_down.weight, .lora_up.weight, .alpha
onetrainer              lora_transformer_transformer_blocks_0_attn_to_q.lora_down.weight
lycoris                 lycoris_transformer_blocks_0_attn_to_q.lokr_w1, as SimpleTuner writes it
comfyui                 diffusion_model.double_blocks.0.img_attn.qkv.lora_down.weight
fal                     base_model.model.double_blocks.0.img_attn.qkv.lora_A.weight
xlabs                   double_blocks.0.processor.qkv_lora1.down.weight
unet                    unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q.lora_A.weight
kohya_unet              lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_q.lora_down.weight, or with
                        diffusers' names of the layers, lora_unet_down_blocks_1_attentions_0_…

Of LoRA's relatives those are supported that PEFT applies to layers with diffusers' names: DoRA (lora_magnitude_vector
in addition to the pair), LoHa (hada_w1_a …) and LoKr (lokr_w1 …).
"""

import math
import re
from collections.abc import Callable, Iterable, Mapping, Set
from dataclasses import dataclass
from enum import StrEnum

from compute.lora.model_card import Naming

__all__ = [
    "LoraDescription",
    "LoraLayer",
    "LoraLayout",
    "LoraMethod",
    "NotALora",
    "TensorName",
    "describe_layers",
    "of_text_encoder",
    "parse_tensor_name",
    "split_layer_part",
]


class NotALora(ValueError):
    """The tensors are not a LoRA, or not one that can be applied; the message says why."""


class LoraLayout(StrEnum):
    """The program whose names a LoRA has."""

    DIFFUSERS = "diffusers"
    PEFT = "peft"
    KOHYA = "kohya"
    ONETRAINER = "onetrainer"
    LYCORIS = "lycoris"
    COMFYUI = "comfyui"
    FAL = "fal"
    XLABS = "xlabs"
    UNET = "unet"
    KOHYA_UNET = "kohya_unet"

    @property
    def naming(self) -> Naming:
        """The naming of FLUX's layers in this layout.

        Raises:
            NotALora: it has none of them, but a UNet's.
        """
        if self in _UNETS:
            raise NotALora("made for another model: its layers are those of a UNet (Stable Diffusion), not of FLUX")
        return _NAMING[self]


_NAMING: dict[LoraLayout, Naming] = {
    LoraLayout.DIFFUSERS: "diffusers",
    LoraLayout.PEFT: "diffusers",
    LoraLayout.KOHYA: "original_flat",
    LoraLayout.ONETRAINER: "diffusers_flat",
    LoraLayout.LYCORIS: "diffusers_flat",
    LoraLayout.COMFYUI: "original",
    LoraLayout.FAL: "original",
    LoraLayout.XLABS: "xlabs",
}
_UNETS = frozenset({LoraLayout.UNET, LoraLayout.KOHYA_UNET})


class LoraMethod(StrEnum):
    """The method by which a file's tensors form the change of a layer."""

    LORA = "LoRA"
    DORA = "DoRA"
    LOHA = "LoHa"
    LOKR = "LoKr"


@dataclass(frozen=True, slots=True)
class LoraLayer:
    """One adapted linear layer: in_features → rank → out_features. A LoKr of two full matrices has rank 0."""

    in_features: int
    rank: int
    out_features: int


@dataclass(frozen=True, slots=True)
class TensorName:
    """A parsed tensor name: its layout, the layer, and the part of the layer's change.

    `part` is down, up, alpha, magnitude, or the method's own name: hada_w1_a, lokr_w2, …
    """

    layout: LoraLayout
    layer: str
    part: str


@dataclass(frozen=True, slots=True)
class LoraDescription:
    """The description of a LoRA by its tensors' names and shapes.

    Attributes:
        layout: The program whose names the tensors have.
        method: Plain LoRA or a relative.
        layers: The layers of the transformer, or of the UNet, by the name without prefix and suffix.
        text_encoder: Whether there are tensors of a text encoder as well.
    """

    layout: LoraLayout
    method: LoraMethod
    layers: dict[str, LoraLayer]
    text_encoder: bool


# Order matters: the first pattern that matches decides.
_PREFIXES: tuple[tuple[re.Pattern[str], LoraLayout], ...] = (
    (re.compile(r"transformer\.(?=\w)"), LoraLayout.DIFFUSERS),
    (re.compile(r"base_model\.model\.(?=(single_)?transformer_blocks\.)"), LoraLayout.PEFT),
    (re.compile(r"base_model\.model\."), LoraLayout.FAL),
    (re.compile(r"lora_unet_(?=(double|single)_blocks_|img_in|txt_in|time_in|vector_in|guidance_in|final_layer)"),
     LoraLayout.KOHYA),
    (re.compile(r"lora_transformer_"), LoraLayout.ONETRAINER),
    (re.compile(r"lycoris_(?=(single_)?transformer_blocks_|x_embedder|context_embedder|time_text_embed_|norm_out_|proj_out)"),
     LoraLayout.LYCORIS),
    (re.compile(r"unet\.(?=\w)"), LoraLayout.UNET),
    (re.compile(r"lora_unet_(?=(down|up|input|output)_blocks_|mid_block_|middle_block_|(time|add)_embedding_|time_embed_|"
                r"label_emb_)"), LoraLayout.KOHYA_UNET),
    (re.compile(r"(diffusion_model\.)?(?=(double|single)_blocks\.\d+\.processor\.)"), LoraLayout.XLABS),
    (re.compile(r"diffusion_model\.(?=(double|single)_blocks\.|\w+_in\b|final_layer\.)"), LoraLayout.COMFYUI),
    (re.compile(r"(?=(single_)?transformer_blocks\.\d+\.(attn|ff|norm|proj))"), LoraLayout.PEFT),
)  # fmt: skip
_TEXT_ENCODER = re.compile(
    r"(lora_te\d?_|lycoris_te\d?_|(base_model\.model\.)?(text_encoder(_[23])?|text_model)\.|text_encoders\.)"
)
_UNET = re.compile(r"(^|[._])(down_blocks|up_blocks|mid_block|input_blocks|output_blocks|middle_block)[._]")
_IN_A_TRANSFORMER = r"(proj_in|proj_out|transformer_blocks\.\d+\.(attn[12]\.to_(q|k|v|out\.0)|ff\.net\.(0\.proj|2)))"
_UNET_LAYERS = tuple(
    re.compile(pattern.replace(r"\.", "[._]"))
    for pattern in (
        rf"((down|up)_blocks\.\d+|mid_block)\.(attentions\.\d+\.{_IN_A_TRANSFORMER}|resnets\.\d+\.time_emb_proj)",
        r"(time|add)_embedding\.linear_[12]",
        rf"((input|output)_blocks\.\d+|middle_block)\.\d+\.({_IN_A_TRANSFORMER}|emb_layers\.1)",
        r"(time_embed|label_emb\.0)\.[02]",
    )
)
"""The linear layers of Stable Diffusion XL's UNet, as diffusers and as the original code names them."""
_PARTS: tuple[tuple[re.Pattern[str], str | None], ...] = (
    (re.compile(r"([._]lora_(A|down)|(\.lora)?\.down)(\.default)?\.weight$"), "down"),
    (re.compile(r"([._]lora_(B|up)|(\.lora)?\.up)(\.default)?\.weight$"), "up"),
    (re.compile(r"\.alpha$"), "alpha"),
    (re.compile(r"\.lora_magnitude_vector(\.default)?(\.weight)?$"), "magnitude"),
    (re.compile(r"\.(hada_w[12]_[ab])(\.default)?$"), None),
    (re.compile(r"\.(lokr_w[12](_[ab])?)(\.default)?$"), None),
)
_REFUSED = {
    "dora_scale": "DoRA files of LyCORIS (dora_scale) are not supported, only those of PEFT (lora_magnitude_vector)",
    "hada_t": "LoHa files for convolutions are not supported",
    "lokr_t": "LoKr files for convolutions are not supported",
    "oft_": "OFT files are not supported, only LoRA and its relatives DoRA, LoHa and LoKr",
}
_CONTROL = re.compile(r"norm_(added_)?[qk]\.|(query|key)_norm\.scale")
# Changes of biases and norms, which no loader of FLUX LoRAs applies.
_IGNORED = re.compile(r"(\.diff|\.diff_b)$")
# PEFT applies the relatives of LoRA to the model's own layers, so not to fused ones.
_ONE_TO_ONE = frozenset({LoraLayout.DIFFUSERS, LoraLayout.PEFT, LoraLayout.ONETRAINER, LoraLayout.LYCORIS})
# Tensors that programs add to quantised weights.
_QUANTISED = re.compile(
    r"(\.|_)(weight_scale(_2)?|scale_weight|scale|scales|zero_point|zeros|absmax|quant_map|quant_state[.\w]*|scaled_fp8|"
    r"nested_absmax|nested_quant_map|qweight|qzeros|g_idx|SCB|CB)$"
)


def of_text_encoder(name: str) -> bool:
    """Whether a tensor of this name changes a text encoder."""
    return _TEXT_ENCODER.match(name) is not None


def parse_tensor_name(name: str) -> TensorName | None:
    """Parse the name of a tensor of the transformer or the UNet; None if the tensor is not applied.

    Raises:
        NotALora: it belongs to another model, or is not part of a LoRA.
    """
    if _IGNORED.search(name):
        return None
    layout, rest = _match(name)
    if (split := split_layer_part(rest)) is not None:
        return TensorName(layout, *split)
    raise NotALora(f"not a plain LoRA: `{name}` is neither half of a low-rank pair ({layout} layout)")


def split_layer_part(name: str) -> tuple[str, str] | None:
    """A tensor's layer and the part of its change, in any layout; None if it is not part of a change."""
    for pattern, part in _PARTS:
        if match := pattern.search(name):
            return name[: match.start()], part or match.group(1)
    return None


def describe_layers(shapes: Mapping[str, tuple[int, ...]]) -> LoraDescription:
    """Recognise the layout and the method, and group each layer's tensors.

    Raises:
        NotALora: with what the file is instead, as far as the names show it.
    """
    _refuse_other_methods(shapes)
    transformer = {name: shape for name, shape in shapes.items() if not of_text_encoder(name)}
    if not _holds_pairs(transformer):
        if _holds_pairs(shapes):
            raise NotALora("it changes a text encoder only, and no layer of the transformer; that is not supported")
        raise NotALora("not a LoRA: it has no pair of low-rank tensors (lora_A and lora_B, or lora_down and lora_up)")
    names = {name: split for name in transformer if (split := parse_tensor_name(name))}
    layout = _layout(names.values())
    layers: dict[str, dict[str, tuple[int, ...]]] = {}
    for name, split in names.items():
        layers.setdefault(split.layer, {})[split.part] = transformer[name]
    layers = {layer: parts for layer, parts in sorted(layers.items()) if parts.keys() != {"alpha"}}
    _check_architecture(layout, layers)
    method = _method({part for parts in layers.values() for part in parts}, layout)
    described = {layer: _DESCRIBE[method](layer, parts) for layer, parts in layers.items()}
    return LoraDescription(layout, method, described, text_encoder=len(transformer) < len(shapes))


def _holds_pairs(names: Iterable[str]) -> bool:
    return any(pattern.search(name) for name in names for pattern, part in _PARTS if part != "alpha")


def _refuse_other_methods(names: Mapping[str, object]) -> None:
    for name in names:
        for mark, reason in _REFUSED.items():
            if mark in name:
                raise NotALora(f"{reason} (`{name}`)")
        if _CONTROL.search(name):
            # diffusers would overwrite the base model's own norms with these, for every later request too.
            raise NotALora(f"control LoRAs are not supported: it replaces layers of the model (`{name}`)")
        if _QUANTISED.search(name):
            raise NotALora(
                f"quantised weights are not supported (`{name}`); export the LoRA in float32, float16 or bfloat16"
            )


def _layout(names: Iterable[TensorName]) -> LoraLayout:
    found = {name.layout for name in names if name.part != "alpha"}
    if len(found) > 1:
        raise NotALora(f"its tensor names mix the layouts {', '.join(sorted(found))}")
    return found.pop()


def _check_architecture(layout: LoraLayout, layers: Iterable[str]) -> None:
    """Check the layers of a UNet; those of FLUX are checked against the model's card."""
    for layer in layers:
        if layout in _UNETS and not any(pattern.fullmatch(layer) for pattern in _UNET_LAYERS):
            raise NotALora(f"made for another model: the UNet of Stable Diffusion XL has no linear layer `{layer}`")
        if layout not in _UNETS and _UNET.search(layer):
            raise NotALora(f"made for another model: `{layer}` is a layer of a UNet, in an unknown spelling")


def _match(name: str) -> tuple[LoraLayout, str]:
    for prefix, layout in _PREFIXES:
        match = prefix.match(name)
        if match:
            return layout, name[match.end() :]
    kind = "it has layers of a UNet in an unknown spelling," if _UNET.search(name) else "FLUX has no layer for"
    raise NotALora(f"made for another model: {kind} `{name}`")


def _method(parts: Set[str], layout: LoraLayout) -> LoraMethod:
    marks = {
        LoraMethod.LOHA: any(part.startswith("hada") for part in parts),
        LoraMethod.LOKR: any(part.startswith("lokr") for part in parts),
        LoraMethod.LORA: "down" in parts or "up" in parts,
    }
    found = [method for method, present in marks.items() if present]
    if len(found) != 1:
        raise NotALora(f"its layers mix the methods {', '.join(found) or 'of no LoRA'}")
    method = LoraMethod.DORA if "magnitude" in parts else found[0]
    if method is not LoraMethod.LORA and layout not in _ONE_TO_ONE:
        raise NotALora(f"{method} files are supported with diffusers' or PEFT's layer names only, not in {layout}'s")
    return method


Shapes = Mapping[str, tuple[int, ...]]


def _lora(name: str, parts: Shapes) -> LoraLayer:
    down, up = parts.get("down"), parts.get("up")
    if down is None or up is None:
        raise NotALora(f"layer `{name}` has only one half of its low-rank pair")
    return _product(name, up, down)


def _dora(name: str, parts: Shapes) -> LoraLayer:
    layer = _lora(name, parts)
    magnitude = parts.get("magnitude")
    if magnitude is None or math.prod(magnitude) != layer.out_features:
        raise NotALora(f"DoRA: layer `{name}` needs a magnitude for each of its {layer.out_features} outputs")
    return layer


def _loha(name: str, parts: Shapes) -> LoraLayer:
    wanted = {f"hada_w{index}_{half}" for index in (1, 2) for half in "ab"}
    if not wanted <= parts.keys():
        raise NotALora(f"LoHa: layer `{name}` lacks {', '.join(sorted(wanted - parts.keys()))}")
    first, second = (_product(name, parts[f"hada_w{i}_a"], parts[f"hada_w{i}_b"]) for i in (1, 2))
    if first != second:
        raise NotALora(f"LoHa: layer `{name}` multiplies two products of different sizes")
    return first


def _lokr(name: str, parts: Shapes) -> LoraLayer:
    left, right = (_kronecker_factor(name, parts, index) for index in (1, 2))
    return LoraLayer(
        in_features=left.in_features * right.in_features,
        rank=max(left.rank, right.rank),
        out_features=left.out_features * right.out_features,
    )


def _kronecker_factor(name: str, parts: Shapes, index: int) -> LoraLayer:
    whole, a, b = (parts.get(f"lokr_w{index}{half}") for half in ("", "_a", "_b"))
    if whole is not None and len(whole) == 2 and 0 not in whole:
        return LoraLayer(in_features=whole[1], rank=0, out_features=whole[0])
    if a is None or b is None:
        raise NotALora(f"LoKr: layer `{name}` lacks its factor lokr_w{index}")
    return _product(name, a, b)


def _product(name: str, up: tuple[int, ...], down: tuple[int, ...]) -> LoraLayer:
    if len(down) == 4:
        raise NotALora(f"layer `{name}` is a convolution; only changes of linear layers are supported")
    if len(down) != 2 or len(up) != 2 or down[0] != up[1] or 0 in (*down, *up):
        raise NotALora(f"layer `{name}` has halves that do not fit: {list(down)} and {list(up)}")
    return LoraLayer(in_features=down[1], rank=down[0], out_features=up[0])


_DESCRIBE: dict[LoraMethod, Callable[[str, Shapes], LoraLayer]] = {
    LoraMethod.LORA: _lora,
    LoraMethod.DORA: _dora,
    LoraMethod.LOHA: _loha,
    LoraMethod.LOKR: _lokr,
}
