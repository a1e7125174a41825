"""A trained LoRA of SDXL acts in diffusers as it did in the training."""

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionXLPipeline
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from safetensors.torch import save_file

from compute.pipelines.tiny.sdxl import save_tiny_sdxl
from compute.training.export.sdxl import to_kohya
from compute.training.models.base import Tensors
from tests.unit.training.models.sdxl_rig import CAPTIONS, denoiser_of, encoders_of, plain, spec_of

RANK, ALPHA = 4, 6


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny-sdxl"
    save_tiny_sdxl(folder)
    return folder


@pytest.fixture(scope="module")
def trained(folder: Path) -> tuple[Tensors, torch.Tensor]:
    """The state of an adapter that changes every layer, and what the network draws with it."""
    denoiser, encoders = denoiser_of(folder), encoders_of(folder)
    unet = denoiser.module
    unet.add_adapter(LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=list(denoiser.lora_targets)))
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, weight in unet.named_parameters():
            if ".lora_" in name:
                weight.normal_(0.0, 0.2, generator=random)
    prompt, empty = encoders.encode_prompt(CAPTIONS[0]), encoders.encode_prompt("")
    drawn = denoiser.denoise(prompt, spec_of(), seed=7, size=(64, 64), negative=empty)
    return get_peft_model_state_dict(unet), drawn


def test_diffusers_draws_with_it_what_the_training_drew(
    folder: Path, trained: tuple[Tensors, torch.Tensor], tmp_path: Path
) -> None:
    state, expected = trained
    save_file(to_kohya(state, alpha=ALPHA), tmp_path / "lora.safetensors")
    pipeline = StableDiffusionXLPipeline.from_pretrained(folder, use_safetensors=True)
    without = plain(pipeline)
    pipeline.load_lora_weights(tmp_path, weight_name="lora.safetensors")
    drawn = plain(pipeline)
    torch.testing.assert_close(drawn, expected, rtol=1e-4, atol=1e-4)
    assert (drawn - without).std() > 0.1 * without.std()


@pytest.mark.parametrize(
    ("block", "original"),
    [
        ("down_blocks.1.attentions.0", "input_blocks_4_1"),
        ("down_blocks.2.attentions.1", "input_blocks_8_1"),
        ("mid_block.attentions.0", "middle_block_1"),
        ("up_blocks.0.attentions.2", "output_blocks_2_1"),
        ("up_blocks.1.attentions.0", "output_blocks_3_1"),
    ],
)
@pytest.mark.parametrize("layer", ["transformer_blocks.1.attn1.to_out.0", "transformer_blocks.0.ff.net.2", "proj_in"])
def test_kohya_names_layers_as_the_original_code_does(block: str, original: str, layer: str) -> None:
    down, up = torch.ones(2, 8), torch.ones(8, 2)
    state = {f"{block}.{layer}.lora_A.default.weight": down, f"{block}.{layer}.lora_B.default.weight": up}
    name = f"lora_unet_{original}_{layer.replace('.', '_')}"
    expected = {f"{name}.lora_down.weight": down, f"{name}.lora_up.weight": up, f"{name}.alpha": torch.tensor(3.0)}
    torch.testing.assert_close(to_kohya(state, alpha=3), expected)


def test_names_of_the_adapter_and_its_wrapper_are_left_out(trained: tuple[Tensors, torch.Tensor]) -> None:
    state, _ = trained
    wrapped = {f"base_model.model.{name}".replace(".weight", ".default.weight"): state[name] for name in state}
    torch.testing.assert_close(to_kohya(wrapped, alpha=ALPHA), to_kohya(state, alpha=ALPHA))


def test_every_layer_keeps_both_halves(trained: tuple[Tensors, torch.Tensor]) -> None:
    state, _ = trained
    assert len(state) == 2 * 170
    assert len(to_kohya(state, alpha=ALPHA)) == 3 * 170


@pytest.mark.parametrize(
    "state",
    [{"conv_in.weight": torch.ones(1)}, {"down_blocks.0.resnets.0.conv1.lora_A.weight": torch.ones(2, 8)}],
    ids=["no LoRA", "no attention"],
)
def test_what_has_no_name_is_refused(state: Mapping[str, torch.Tensor]) -> None:
    with pytest.raises(ValueError, match=r"not half of|none of the UNet's attention blocks"):
        to_kohya(state, alpha=1)
