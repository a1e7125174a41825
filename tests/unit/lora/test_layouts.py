"""LoRAs of Stable Diffusion XL are kept, and told from those of FLUX."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from compute.errors import InvalidInput
from compute.lora.check import check_lora_file
from compute.lora.layouts import LoraLayout, NotALora
from tests.unit.lora.test_header import FLUX_DEV, Shapes, kohya, pair

BLOCK = "down_blocks.1.attentions.0.transformer_blocks.0"
LAYERS: list[tuple[str, str]] = [
    ("unet", f"unet.{BLOCK}.attn1.to_q"),
    ("unet", f"unet.{BLOCK}.attn2.to_out.0"),
    ("unet", f"unet.{BLOCK}.ff.net.0.proj"),
    ("unet", "unet.mid_block.attentions.0.proj_in"),
    ("unet", "unet.up_blocks.2.resnets.1.time_emb_proj"),
    ("unet", "unet.add_embedding.linear_1"),
    ("kohya_unet", "lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_q"),
    ("kohya_unet", "lora_unet_middle_block_1_transformer_blocks_9_ff_net_2"),
    ("kohya_unet", "lora_unet_output_blocks_5_1_proj_out"),
    ("kohya_unet", "lora_unet_down_blocks_2_attentions_1_transformer_blocks_0_attn2_to_out_0"),
    ("kohya_unet", "lora_unet_mid_block_attentions_0_proj_in"),
    ("kohya_unet", "lora_unet_label_emb_0_2"),
]
CONVOLUTION: Shapes = {
    f"unet.{BLOCK}.attn1.to_q.lora_A.weight": (2, 4, 3, 3),
    f"unet.{BLOCK}.attn1.to_q.lora_B.weight": (4, 2, 1, 1),
}
ONE = pair(f"unet.{BLOCK}.attn1.to_q", 640, 640)


def checked(tmp_path: Path, shapes: Shapes, *, any_model: bool = True) -> tuple[str, int, int, bool]:
    file = tmp_path / "one.safetensors"
    file.write_bytes(save({name: np.zeros(shape, np.float16) for name, shape in shapes.items()}))
    info = check_lora_file(file, None, field="file", any_model=any_model)
    return info.layout, info.rank, info.layers, info.text_encoder


@pytest.mark.parametrize(("layout", "layer"), LAYERS)
def test_every_spelling_of_a_unets_layers_is_recognised(tmp_path: Path, layout: str, layer: str) -> None:
    shapes = pair(layer, 640, 640) if layout == "unet" else kohya(layer, 640, 640)
    text = kohya("lora_te2_text_model_encoder_layers_0_mlp_fc1", 1280, 5120)
    assert checked(tmp_path, shapes) == (layout, 2, 1, False)
    assert checked(tmp_path, shapes | text) == (layout, 2, 1, True)
    with pytest.raises(InvalidInput, match=r"made for another model: .*UNet \(Stable Diffusion\), not of FLUX"):
        checked(tmp_path, shapes, any_model=False)
    with pytest.raises(InvalidInput, match="made for another model"):
        check_lora_file(tmp_path / "one.safetensors", FLUX_DEV, field="lora")


@pytest.mark.parametrize(
    ("shapes", "words"),
    [
        (pair("unet.down_blocks.1.attentions.0.to_q", 4, 4), "the UNet of Stable Diffusion XL has no linear layer"),
        (kohya("lora_unet_up_blocks_0_x", 4, 4), "the UNet of Stable Diffusion XL has no linear layer"),
        (pair("diffusion_model.input_blocks.4.1.proj_in", 4, 4), "a UNet in an unknown spelling"),
        (pair("transformer.down_blocks.1.attentions.0.proj_in", 4, 4), "a UNet, in an unknown spelling"),
        (ONE | kohya("lora_unet_mid_block_attentions_0_proj_in", 4, 4), "mix the layouts"),
        (ONE | pair("transformer.x_embedder", 64, 3072), "mix the layouts"),
        ({f"unet.{BLOCK}.attn1.to_q.lora_A.weight": (2, 640)}, "only one half"),
        (CONVOLUTION, "is a convolution"),
        ({f"unet.{BLOCK}.attn1.to_q.hada_w{i}_{half}": (4, 4) for i in (1, 2) for half in "ab"}, "LoHa files are"),
    ],
)
def test_what_is_none_is_refused_with_the_reason(tmp_path: Path, shapes: Shapes, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        checked(tmp_path, shapes)


def test_a_unets_layout_has_no_names_for_fluxs_layers() -> None:
    for layout in (LoraLayout.UNET, LoraLayout.KOHYA_UNET):
        with pytest.raises(NotALora, match="made for another model"):
            _ = layout.naming
