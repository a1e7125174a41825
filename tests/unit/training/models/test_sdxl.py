"""SDXL learns as the field's scripts teach it, and draws its samples as diffusers does."""

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, EulerDiscreteScheduler, StableDiffusionXLPipeline, UNet2DConditionModel
from peft import LoraConfig
from transformers import CLIPTextModel, CLIPTextModelWithProjection

from compute.pipelines.tiny.sdxl import save_tiny_sdxl
from compute.training.models.base import Encoders, ImageFacts, Tensors
from compute.training.models.sdxl import FAMILY
from compute.training.models.sdxl.network import SdxlDenoiser
from tests.unit.training.models.sdxl_rig import (
    CAPTIONS,
    CPU,
    batch_of,
    denoiser_of,
    encoders_of,
    pictures,
    plain,
    spec_of,
    with_config,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny-sdxl"
    save_tiny_sdxl(folder)
    return folder


@pytest.fixture(scope="module")
def encoders(folder: Path) -> Encoders:
    return encoders_of(folder)


@pytest.fixture(scope="module")
def pipeline(folder: Path) -> StableDiffusionXLPipeline:
    return StableDiffusionXLPipeline.from_pretrained(folder, use_safetensors=True)


@pytest.fixture(scope="module")
def batch(encoders: Encoders) -> tuple[torch.Tensor, Tensors]:
    return batch_of(encoders)


@pytest.fixture(scope="module")
def learned(folder: Path, batch: tuple[torch.Tensor, Tensors]) -> tuple[SdxlDenoiser, float, float]:
    """A network that has learned both pictures under their captions, and its loss before and after."""
    denoiser = denoiser_of(folder, spec_of(prediction="v_prediction"))
    first, last = _train(denoiser, batch, learning_rate=4e-3, steps=40)
    return denoiser, first, last


class TestTinyModel:
    def test_it_is_the_same_every_time_and_small(self, folder: Path, tmp_path: Path) -> None:
        save_tiny_sdxl(tmp_path)
        files = sorted(file.relative_to(folder) for file in folder.rglob("*") if file.is_file())
        assert [file for file in files if (folder / file).read_bytes() != (tmp_path / file).read_bytes()] == []
        assert sum((folder / file).stat().st_size for file in files) < 5 * 2**20

    def test_it_loads_as_the_real_classes(self, pipeline: StableDiffusionXLPipeline) -> None:
        assert isinstance(pipeline.unet, UNet2DConditionModel)
        assert isinstance(pipeline.vae, AutoencoderKL)
        assert type(pipeline.text_encoder) is CLIPTextModel
        assert type(pipeline.text_encoder_2) is CLIPTextModelWithProjection
        assert isinstance(pipeline.scheduler, EulerDiscreteScheduler)
        assert pipeline.unet.config.addition_embed_type == "text_time"
        assert (pipeline.vae.config.scaling_factor, pipeline.vae.config.shift_factor) == (0.13025, None)

    @pytest.mark.parametrize(
        "change",
        [
            {"prompt": "a red squire"},
            {"negative_prompt": ""},
            {"original_size": (512, 512)},
            {"crops_coords_top_left": (0, 64)},
            {"generator": torch.Generator().manual_seed(8)},
        ],
        ids=lambda change: next(iter(change)),
    )
    def test_it_answers_to_every_input(self, pipeline: StableDiffusionXLPipeline, change: dict[str, object]) -> None:
        before, after = plain(pipeline, num_inference_steps=2), plain(pipeline, num_inference_steps=2, **change)
        assert (after - before).std() > 0.03 * before.std()


class TestEncoders:
    def test_a_caption_is_read_as_by_the_pipeline(
        self, encoders: Encoders, pipeline: StableDiffusionXLPipeline
    ) -> None:
        embeds, _, pooled, _ = pipeline.encode_prompt(CAPTIONS[0], do_classifier_free_guidance=False)
        found = encoders.encode_prompt(CAPTIONS[0])
        torch.testing.assert_close(found, {"prompt_embeds": embeds[0], "pooled": pooled[0]})

    def test_no_caption_is_zeros_where_the_model_says_so(self, encoders: Encoders) -> None:
        assert not any(value.any() for value in encoders.encode_prompt("").values())

    def test_no_caption_is_a_prompt_for_other_models(
        self, folder: Path, tmp_path: Path, pipeline: StableDiffusionXLPipeline
    ) -> None:
        other = with_config(folder, tmp_path / "x", "model_index.json", force_zeros_for_empty_prompt=False)
        embeds, _, pooled, _ = pipeline.encode_prompt("", do_classifier_free_guidance=False)
        found = encoders_of(other).encode_prompt("")
        torch.testing.assert_close(found, {"prompt_embeds": embeds[0], "pooled": pooled[0]})

    def test_latents_are_scaled_as_the_network_reads_them(
        self, encoders: Encoders, pipeline: StableDiffusionXLPipeline
    ) -> None:
        picture = pictures()[0]
        with torch.no_grad():
            whole = pipeline.vae.encode(picture[None]).latent_dist
        found = encoders.encode_image(picture)
        torch.testing.assert_close(found["mean"], whole.mean[0] * 0.13025)
        torch.testing.assert_close(found["std"], whole.std[0] * 0.13025)

    def test_the_network_is_told_heights_before_widths(self, encoders: Encoders) -> None:
        wide = torch.zeros(3, 64, 128)
        about = ImageFacts(original_size=(1920, 1080), crop_top_left=(4, 12))
        assert encoders.encode_image(wide, about)["time_ids"].tolist() == [1080, 1920, 4, 12, 64, 128]
        assert encoders.encode_image(wide)["time_ids"].tolist() == [64, 128, 0, 0, 64, 128]

    def test_the_vae_stays_wide_where_it_overflows_otherwise(self, folder: Path, tmp_path: Path) -> None:
        picture = pictures()[1]
        exact = encoders_of(folder).encode_image(picture)["mean"]
        narrow = with_config(folder, tmp_path / "x", "vae/config.json", force_upcast=False)
        assert torch.equal(encoders_of(folder, torch.bfloat16).encode_image(picture)["mean"], exact)
        assert not torch.equal(encoders_of(narrow, torch.bfloat16).encode_image(picture)["mean"], exact)

    def test_text_encoders_compute_in_the_given_format(self, folder: Path) -> None:
        found = encoders_of(folder, torch.bfloat16).encode_prompt(CAPTIONS[0])
        assert {value.dtype for value in found.values()} == {torch.bfloat16}


class TestLearning:
    def test_all_weights_learn_the_noise(self, folder: Path, batch: tuple[torch.Tensor, Tensors]) -> None:
        first, last = _train(denoiser_of(folder), batch, learning_rate=4e-3, steps=15)
        assert last < 0.7 * first

    def test_all_weights_learn_a_velocity(self, learned: tuple[SdxlDenoiser, float, float]) -> None:
        _, first, last = learned
        assert last < 0.5 * first

    def test_a_lora_learns_that_the_captions_are_the_other_way_round(
        self, folder: Path, batch: tuple[torch.Tensor, Tensors], learned: tuple[SdxlDenoiser, float, float]
    ) -> None:
        denoiser = denoiser_of(folder, spec_of(prediction="v_prediction"))
        unet = denoiser.module
        unet.load_state_dict(learned[0].module.state_dict())
        unet.requires_grad_(False)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            unet.add_adapter(LoraConfig(r=8, lora_alpha=8, target_modules=list(denoiser.lora_targets)))
        # Each block of two attentions and a feed-forward has ten such layers; the UNet has 17 of them.
        assert len([name for name, _ in unet.named_parameters() if name.endswith("lora_A.default.weight")]) == 170
        latents, known = batch
        first, last = _train(denoiser, (latents.flip(0), known), learning_rate=1e-2, steps=20)
        assert last < 0.6 * first

    def test_bfloat16_gives_a_loss_in_float32(self, folder: Path, batch: tuple[torch.Tensor, Tensors]) -> None:
        losses = {
            dtype: denoiser_of(folder, dtype=dtype).loss(*batch, torch.Generator().manual_seed(0))
            for dtype in (torch.float32, torch.bfloat16)
        }
        assert losses[torch.bfloat16].dtype == torch.float32
        assert losses[torch.bfloat16].requires_grad
        torch.testing.assert_close(losses[torch.bfloat16], losses[torch.float32], rtol=0.05, atol=0.0)


class TestSamples:
    @pytest.mark.parametrize("scale", [1.0, 5.0])
    @pytest.mark.parametrize("size", [(64, 64), (128, 64)])
    def test_they_are_what_diffusers_draws(
        self,
        folder: Path,
        encoders: Encoders,
        pipeline: StableDiffusionXLPipeline,
        scale: float,
        size: tuple[int, int],
    ) -> None:
        width, height = size
        expected = plain(pipeline, width=width, height=height, guidance_scale=scale)
        spec = spec_of(guidance_scale=scale)
        prompt, empty = encoders.encode_prompt(CAPTIONS[0]), encoders.encode_prompt("")
        drawn = denoiser_of(folder, spec).denoise(prompt, spec, seed=7, size=size, negative=empty)
        torch.testing.assert_close(drawn, expected, rtol=1e-4, atol=1e-4)

    def test_their_pictures_are_those_of_diffusers(
        self, folder: Path, encoders: Encoders, pipeline: StableDiffusionXLPipeline
    ) -> None:
        expected = np.asarray(plain(pipeline, output_type="pil", width=128)[0]).astype(int)
        prompt, empty = encoders.encode_prompt(CAPTIONS[0]), encoders.encode_prompt("")
        latents = denoiser_of(folder).denoise(prompt, spec_of(), seed=7, size=(128, 64), negative=empty)
        drawn = FAMILY.decode(folder, latents, device=CPU)
        assert drawn.mode == "RGB"
        assert drawn.size == (128, 64)
        assert np.abs(np.asarray(drawn).astype(int) - expected).max() <= 1

    def test_a_velocity_is_followed_as_diffusers_does(self, folder: Path, encoders: Encoders, tmp_path: Path) -> None:
        changed = with_config(
            folder,
            tmp_path / "x",
            "scheduler/scheduler_config.json",
            prediction_type="v_prediction",
            rescale_betas_zero_snr=True,
            timestep_spacing="trailing",
        )
        expected = plain(StableDiffusionXLPipeline.from_pretrained(changed, use_safetensors=True))
        prompt, empty = encoders.encode_prompt(CAPTIONS[0]), encoders.encode_prompt("")
        drawn = denoiser_of(changed).denoise(prompt, spec_of(), seed=7, size=(64, 64), negative=empty)
        torch.testing.assert_close(drawn, expected, rtol=1e-4, atol=1e-4)

    def test_they_leave_the_training_as_it_was(self, folder: Path, encoders: Encoders) -> None:
        denoiser, prompt = denoiser_of(folder), encoders.encode_prompt(CAPTIONS[0])
        before = torch.get_rng_state()
        one, two, other = (
            denoiser.denoise(prompt, spec_of(guidance_scale=1.0), seed=seed, size=(64, 64)) for seed in (7, 7, 8)
        )
        assert torch.equal(one, two)
        assert not torch.equal(one, other)
        assert torch.equal(torch.get_rng_state(), before)
        assert denoiser.module.training
        assert not one.requires_grad

    def test_guidance_needs_something_to_guide_away_from(self, folder: Path, encoders: Encoders) -> None:
        with pytest.raises(ValueError, match="the empty prompt"):
            denoiser_of(folder).denoise(encoders.encode_prompt("x"), spec_of(), seed=7, size=(64, 64))


def _train(
    denoiser: SdxlDenoiser, batch: tuple[torch.Tensor, Tensors], *, learning_rate: float, steps: int
) -> tuple[float, float]:
    """The mean loss at the same noise and steps before and after."""
    weights = [weight for weight in denoiser.module.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=learning_rate)
    random = torch.Generator().manual_seed(1)
    first = _loss(denoiser, batch)
    for _ in range(steps):
        optimizer.zero_grad()
        denoiser.loss(*batch, random).mean().backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
    return first, _loss(denoiser, batch)


@torch.no_grad()
def _loss(denoiser: SdxlDenoiser, batch: tuple[torch.Tensor, Tensors]) -> float:
    random = torch.Generator().manual_seed(0)
    return float(torch.stack([denoiser.loss(*batch, random).mean() for _ in range(8)]).mean())
