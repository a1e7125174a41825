"""The terms of SDXL's loss, against diffusers' scheduler and against numbers worked out by hand."""

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDPMScheduler, EDMEulerScheduler, EulerDiscreteScheduler, FlowMatchEulerDiscreteScheduler

from compute.errors import InvalidInput
from compute.pipelines.tiny.sdxl import save_tiny_sdxl
from compute.training.models.sdxl.noise import ForwardProcess, Prediction, load_scheduler
from tests.unit.training.models.sdxl_rig import batch_of, denoiser_of, encoders_of, spec_of

PREDICTIONS: tuple[Prediction, ...] = ("epsilon", "v_prediction")


def euler(folder: Path, **options: Any) -> Path:
    """A folder with SDXL's scheduler and some options of it."""
    sdxl = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "timestep_spacing": "leading"}
    EulerDiscreteScheduler(**(sdxl | options)).save_pretrained(folder / "scheduler")
    return folder


@pytest.mark.parametrize("zero_snr", [False, True])
@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_mixture_and_target_are_those_of_the_scheduler(tmp_path: Path, prediction: Prediction, zero_snr: bool) -> None:
    folder = euler(tmp_path, prediction_type=prediction, rescale_betas_zero_snr=zero_snr)
    process = ForwardProcess.of(load_scheduler(folder))
    reference = DDPMScheduler.from_pretrained(folder / "scheduler")
    random = torch.Generator().manual_seed(0)
    pictures, noise = torch.randn(2, 6, 4, 8, 8, generator=random)
    steps = torch.tensor([0, 1, 250, 500, 998, 999])
    torch.testing.assert_close(process.mix(pictures, noise, steps), reference.add_noise(pictures, noise, steps))
    velocity = reference.get_velocity(pictures, noise, steps)
    torch.testing.assert_close(process.target(pictures, noise, steps), noise if prediction == "epsilon" else velocity)
    assert process.steps == 1000
    assert bool(process.alphas[-1] == 0) is zero_snr


SNRS = (0.0, 0.25, 1.0, 4.0, 9.0, 99.0)


@pytest.mark.parametrize(
    ("prediction", "weights"),
    [
        ("epsilon", (1.0, 1.0, 1.0, 1.0, 5 / 9, 5 / 99)),
        ("v_prediction", (0.0, 1 / 5, 1 / 2, 4 / 5, 1 / 2, 1 / 20)),
    ],
)
def test_min_snr_weights_at_gamma_5(prediction: Prediction, weights: tuple[float, ...]) -> None:
    alphas = torch.tensor([snr / (1 + snr) for snr in SNRS])
    found = ForwardProcess(alphas, prediction).min_snr_weights(torch.arange(len(SNRS)), gamma=5.0)
    torch.testing.assert_close(found, torch.tensor(weights))


@pytest.mark.parametrize("steps", [torch.arange(1000)])
def test_both_predictions_weigh_a_picture_equally(tmp_path: Path, steps: torch.Tensor) -> None:
    """The weight of the picture's own error is min(SNR, gamma), whatever the network predicts."""
    alphas = ForwardProcess.of(load_scheduler(euler(tmp_path))).alphas
    snr = alphas / (1 - alphas)
    epsilon, velocity = (ForwardProcess(alphas, kind).min_snr_weights(steps, 5.0) for kind in PREDICTIONS)
    expected = snr.clamp(max=5.0)
    torch.testing.assert_close(epsilon * snr, expected)
    torch.testing.assert_close(velocity * (snr + 1), expected)


@pytest.mark.parametrize("weighting", ["none", "min_snr"])
@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_the_loss_is_the_weighted_error_of_each_picture(model: Path, prediction: Prediction, weighting: str) -> None:
    latents, batch = batch_of(encoders_of(model))
    denoiser = denoiser_of(model, spec_of(prediction=prediction, weighting=weighting, min_snr_gamma=2.0))
    losses = denoiser.loss(latents, batch, torch.Generator().manual_seed(3))
    # The order in which the loss draws: noise, then steps.
    random = torch.Generator().manual_seed(3)
    noise = torch.randn(latents.shape, generator=random)
    steps = torch.randint(1000, (2,), generator=random)
    scheduler = DDPMScheduler.from_pretrained(model / "scheduler")
    predicted = denoiser.module(
        scheduler.add_noise(latents, noise, steps),
        steps,
        encoder_hidden_states=batch["prompt_embeds"],
        added_cond_kwargs={"text_embeds": batch["pooled"], "time_ids": batch["time_ids"]},
    ).sample
    target = noise if prediction == "epsilon" else scheduler.get_velocity(latents, noise, steps)
    expected = torch.stack([torch.nn.functional.mse_loss(*pair) for pair in zip(predicted, target, strict=True)])
    if weighting == "min_snr":
        alphas = scheduler.alphas_cumprod[steps]
        snr = alphas / (1 - alphas)
        expected = expected * snr.clamp(max=2.0) / (snr if prediction == "epsilon" else snr + 1)
    torch.testing.assert_close(losses, expected)


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_pure_noise_has_a_finite_loss(tmp_path: Path, prediction: Prediction) -> None:
    process = ForwardProcess.of(load_scheduler(euler(tmp_path, rescale_betas_zero_snr=True), prediction))
    picture, noise, last = torch.ones(1, 4, 8, 8), torch.full((1, 4, 8, 8), 2.0), torch.tensor([999])
    assert torch.equal(process.mix(picture, noise, last), noise)
    assert torch.equal(process.target(picture, noise, last), noise if prediction == "epsilon" else -picture)
    assert process.min_snr_weights(last, 5.0).isfinite().all()


def test_the_spec_decides_what_is_predicted_when_it_says_so(tmp_path: Path) -> None:
    folder = euler(tmp_path)
    assert load_scheduler(folder, "auto").config.prediction_type == "epsilon"
    assert load_scheduler(folder, "v_prediction").config.prediction_type == "v_prediction"


@pytest.mark.parametrize(
    "scheduler",
    [
        FlowMatchEulerDiscreteScheduler(),
        EDMEulerScheduler(),
        EulerDiscreteScheduler(prediction_type="sample"),
        EulerDiscreteScheduler(prediction_type="v_prediction", timestep_type="continuous"),
    ],
    ids=["flow matching", "EDM", "predicts pictures", "continuous time"],
)
def test_models_of_another_process_are_refused(tmp_path: Path, scheduler: Any) -> None:
    scheduler.save_pretrained(tmp_path / "scheduler")
    with pytest.raises(InvalidInput):
        load_scheduler(tmp_path)


@pytest.mark.parametrize("name", ["NoSuchScheduler", "utils", None])
def test_a_scheduler_that_diffusers_lacks_is_refused(tmp_path: Path, name: str | None) -> None:
    file = euler(tmp_path) / "scheduler" / "scheduler_config.json"
    file.write_text(file.read_text().replace('"EulerDiscreteScheduler"', f'"{name}"' if name else "null"))
    with pytest.raises(InvalidInput, match="none of diffusers'"):
        load_scheduler(tmp_path)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny-sdxl"
    save_tiny_sdxl(folder)
    return folder
