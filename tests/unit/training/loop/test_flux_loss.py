"""The inputs and targets of FLUX's network: a stand-in for it, which knows the answer, sees every input."""

import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline

from compute.training.models.base import Tensors
from compute.training.models.flux.network import FluxDenoiser, load_flux_denoiser
from compute.training.spec import TrainingSpec
from tests.unit.training.loop.rig import CPU, Bench, spec_of

MANY = 4096
Answer = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


class Stand(torch.nn.Module):
    """Keeps what it is given, and answers (noisy, sigma) with what it was made to say."""

    def __init__(self, answer: Answer, *, guided: bool = True) -> None:
        super().__init__()
        self.config = SimpleNamespace(guidance_embeds=guided, in_channels=64)
        self.dtype, self.device = torch.float32, CPU
        self.answer = answer
        self.seen: dict[str, Any] = {}

    def forward(self, **given: Any) -> tuple[torch.Tensor]:
        self.seen = given
        return (self.answer(given["hidden_states"], given["timestep"].view(-1, 1, 1)),)


def stood(answer: Answer, *, guided: bool = True, **changes: Any) -> tuple[FluxDenoiser, Stand]:
    stand = Stand(answer, guided=guided)
    scheduler = FlowMatchEulerDiscreteScheduler(
        use_dynamic_shifting=True, base_shift=0.5, max_shift=1.15, base_image_seq_len=256, max_image_seq_len=4096
    )
    return FluxDenoiser(stand, scheduler, spec_of(**changes)), stand


def latents_of(count: int, height: int = 2, width: int = 2) -> torch.Tensor:
    return torch.randn(count, 16, height, width, generator=torch.Generator().manual_seed(1))


def words(count: int) -> Tensors:
    return {"prompt_embeds": torch.ones(count, 7, 32), "pooled": torch.ones(count, 32)}


def packed(latents: torch.Tensor) -> torch.Tensor:
    found: torch.Tensor = FluxPipeline._pack_latents(latents, *latents.shape)
    return found


def losses(denoiser: FluxDenoiser, latents: torch.Tensor, seed: int = 0) -> torch.Tensor:
    return denoiser.loss(latents, words(len(latents)), torch.Generator().manual_seed(seed))


def oracle(latents: torch.Tensor, off: float = 0.0) -> Answer:
    """Knows the picture, and so from the mixture (1 - s) x0 + s x1 what x1 - x0 is; it may miss it by `off`."""
    known = packed(latents)
    return lambda noisy, sigma: (noisy - known) / sigma + off


def sigmas_of(count: int = MANY, *, height: int = 2, width: int = 2, **changes: Any) -> torch.Tensor:
    denoiser, stand = stood(lambda noisy, _sigma: noisy, **changes)
    losses(denoiser, latents_of(count, height, width))
    found: torch.Tensor = stand.seen["timestep"]
    return found


@pytest.mark.parametrize("timesteps", ["logit_normal", "uniform", "mode", "shifted"])
@pytest.mark.parametrize("size", [(2, 2), (8, 6)])
def test_the_velocity_from_picture_to_noise_is_the_answer(timesteps: str, size: tuple[int, int]) -> None:
    latents = latents_of(64, *size)
    denoiser, _ = stood(oracle(latents), timesteps=timesteps)
    assert losses(denoiser, latents).max() < 1e-5


def test_any_other_answer_costs_its_square() -> None:
    latents = latents_of(64)
    denoiser, _ = stood(oracle(latents, off=0.5))
    torch.testing.assert_close(losses(denoiser, latents), torch.full((64,), 0.25), rtol=1e-3, atol=1e-4)


def test_each_picture_has_a_loss_of_its_own() -> None:
    latents = latents_of(3)
    misses = torch.tensor([1.0, 0.0, 2.0]).view(3, 1, 1)
    known = packed(latents)
    denoiser, _ = stood(lambda noisy, sigma: (noisy - known) / sigma + misses)
    torch.testing.assert_close(losses(denoiser, latents), torch.tensor([1.0, 0.0, 4.0]), rtol=1e-3, atol=1e-4)


def test_the_noise_is_normal_and_every_picture_gets_other_noise() -> None:
    latents = latents_of(MANY)
    denoiser, stand = stood(lambda noisy, _sigma: noisy)
    losses(denoiser, latents)
    sigma = stand.seen["timestep"].view(-1, 1, 1)
    noise = (stand.seen["hidden_states"] - (1 - sigma) * packed(latents)) / sigma
    clear = noise[sigma.flatten() > 0.2]
    assert abs(float(clear.mean())) < 0.02
    assert float(clear.std()) == pytest.approx(1.0, abs=0.02)
    assert len(clear[:, 0, 0].unique()) == len(clear)


@pytest.mark.parametrize(
    ("timesteps", "mean", "spread"),
    # The moments of the logistic normal and of the uniform distribution, and SD3's mode function with s = 1.29.
    [("logit_normal", 0.5, 0.2083), ("uniform", 0.5, 0.2887), ("mode", 0.5, 0.213)],
)
def test_noise_levels_are_drawn_as_asked(timesteps: str, mean: float, spread: float) -> None:
    sigmas = sigmas_of(timesteps=timesteps)
    assert float(sigmas.min()) >= 1e-3
    assert float(sigmas.max()) <= 1.0
    assert float(sigmas.mean()) == pytest.approx(mean, abs=0.02)
    assert float(sigmas.std()) == pytest.approx(spread, abs=0.01)


@pytest.mark.parametrize(("side", "mu"), [(32, 0.5), (128, 1.15)])
def test_shifted_levels_move_towards_the_noise_as_the_scheduler_moves_them(side: int, mu: float) -> None:
    uniform = sigmas_of(8, height=side, width=side, timesteps="uniform")
    shifted = sigmas_of(8, height=side, width=side, timesteps="shifted")
    scheduler = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)
    torch.testing.assert_close(shifted, scheduler.time_shift(mu, 1.0, uniform))
    assert (shifted > uniform).all()
    assert float(shifted.max()) <= 1.0


@pytest.mark.parametrize(
    ("weighting", "weight"),
    [
        ("none", torch.ones_like),
        ("sigma_sqrt", lambda s: s**-2),
        ("cosmap", lambda s: 2 / (math.pi * (1 - 2 * s + 2 * s**2))),
    ],
)
def test_each_level_weighs_as_asked(weighting: str, weight: Callable[[torch.Tensor], torch.Tensor]) -> None:
    latents = latents_of(64)
    denoiser, stand = stood(oracle(latents, off=1.0), weighting=weighting)
    found = losses(denoiser, latents)
    torch.testing.assert_close(found, weight(stand.seen["timestep"]), rtol=1e-2, atol=1e-3)


def test_the_guidance_it_is_told_comes_from_the_range() -> None:
    denoiser, stand = stood(lambda noisy, _sigma: noisy, guidance=(2.0, 5.0))
    losses(denoiser, latents_of(MANY))
    told = stand.seen["guidance"]
    assert 2.0 <= float(told.min()) < 2.05
    assert 4.95 < float(told.max()) <= 5.0
    assert float(told.mean()) == pytest.approx(3.5, abs=0.05)


def test_it_is_told_one_guidance_unless_asked() -> None:
    denoiser, stand = stood(lambda noisy, _sigma: noisy)
    losses(denoiser, latents_of(3))
    assert stand.seen["guidance"].tolist() == [1.0, 1.0, 1.0]


def test_a_model_that_knows_no_guidance_is_told_none() -> None:
    denoiser, stand = stood(lambda noisy, _sigma: noisy, guided=False, bypass_guidance_embedding=True)
    losses(denoiser, latents_of(3))
    assert stand.seen["guidance"] is None


def test_patches_know_where_they_are() -> None:
    denoiser, stand = stood(lambda noisy, _sigma: noisy)
    losses(denoiser, latents_of(2, 4, 6))
    assert stand.seen["hidden_states"].shape == (2, 6, 64)
    assert stand.seen["img_ids"].tolist() == [[0, row, column] for row in range(2) for column in range(3)]
    assert stand.seen["txt_ids"].tolist() == [[0, 0, 0]] * 7


class TestGuidance:
    """Of the tiny FLUX itself."""

    @pytest.mark.parametrize("bypassed", [False, True])
    def test_it_makes_no_difference_once_it_is_bypassed(self, bench: Bench, bypassed: bool) -> None:
        low, high = (
            _loss(bench, spec_of(bypass_guidance_embedding=bypassed, guidance=(value, value))) for value in (1.0, 30.0)
        )
        assert torch.equal(low, high) == bypassed

    def test_without_it_the_network_is_another(self, bench: Bench) -> None:
        told, deaf = (_loss(bench, spec_of(bypass_guidance_embedding=choice)) for choice in (False, True))
        assert not torch.allclose(told, deaf, rtol=1e-3)

    def test_its_embedding_is_still_in_the_file(self, bench: Bench, tmp_path: Path) -> None:
        trainer = bench.train(spec_of(bypass_guidance_embedding=True, training_type="FULL", steps=1))
        trainer.export(tmp_path)
        again = load_flux_denoiser(tmp_path_of(bench, tmp_path), spec_of(), device=CPU, dtype=torch.float32).module
        before = load_flux_denoiser(bench.model, spec_of(), device=CPU, dtype=torch.float32).module
        names = [name for name in before.state_dict() if "guidance_embedder" in name]
        assert len(names) == 4
        assert all(torch.equal(again.state_dict()[name], before.state_dict()[name]) for name in names)


def tmp_path_of(bench: Bench, folder: Path) -> Path:
    """The exported network beside the model's scheduler."""
    (folder / "scheduler").symlink_to(bench.model / "scheduler")
    return folder


def _loss(bench: Bench, spec: TrainingSpec) -> torch.Tensor:
    denoiser = load_flux_denoiser(bench.model, spec, device=CPU, dtype=torch.float32)
    tensors, captions = bench.cache.images(0, [0, 1])
    return denoiser.loss(tensors["mean"], captions, torch.Generator().manual_seed(0)).detach()
