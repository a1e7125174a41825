"""Recipes of the demo model: sizes, numbers of images and steps. With the seed they determine the result."""

from dataclasses import dataclass

__all__ = ["SHIPPED", "TRIAL", "Phase", "Recipe"]


@dataclass(frozen=True, slots=True)
class Phase:
    """One FULL training, which starts from the last one's weights.

    Attributes:
        images: The number of images, by side in pixels.
    """

    images: dict[int, int]
    steps: int
    batch_size: int
    learning_rate: float


@dataclass(frozen=True, slots=True)
class Recipe:
    """The parameters of a build."""

    vae_images: dict[int, int]
    vae_crop: int
    vae_steps: int
    vae_batch_size: int
    phases: tuple[Phase, ...]
    decoder_steps: int
    seed: int = 20260801


SHIPPED = Recipe(
    vae_images={128: 10_000},
    vae_crop=64,
    vae_steps=6_000,
    vae_batch_size=16,
    phases=(Phase({128: 16_000}, steps=9_000, batch_size=32, learning_rate=1e-3),),
    decoder_steps=1_000,
)
"""The recipe of the shipped weights: 100 minutes on two CPU cores."""

TRIAL = Recipe(
    vae_images={64: 400},
    vae_crop=64,
    vae_steps=30,
    vae_batch_size=8,
    phases=(
        Phase({64: 64}, steps=10, batch_size=8, learning_rate=1e-3),
        Phase({64: 16, 128: 16}, steps=4, batch_size=4, learning_rate=4e-4),
    ),
    decoder_steps=10,
)
"""Exercises every part in a minute; the resulting model is useless."""
