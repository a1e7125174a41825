"""How the demo model is made: sizes, numbers of pictures and steps. Together with the seed it is the whole recipe."""

from dataclasses import dataclass

__all__ = ["SHIPPED", "TRIAL", "Phase", "Recipe"]


@dataclass(frozen=True, slots=True)
class Phase:
    """One FULL training, which goes on from the last one's weights.

    Attributes:
        pictures: How many there are of each side in pixels.
    """

    pictures: dict[int, int]
    steps: int
    batch_size: int
    learning_rate: float


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that decides the result."""

    vae_pictures: dict[int, int]
    vae_crop: int
    vae_steps: int
    vae_batch_size: int
    phases: tuple[Phase, ...]
    decoder_steps: int
    seed: int = 20260801


SHIPPED = Recipe(
    vae_pictures={128: 10_000},
    vae_crop=64,
    vae_steps=6_000,
    vae_batch_size=16,
    phases=(Phase({128: 16_000}, steps=9_000, batch_size=32, learning_rate=1e-3),),
    decoder_steps=1_000,
)
"""The one that the shipped weights come from: 100 minutes on two CPU cores."""

TRIAL = Recipe(
    vae_pictures={64: 400},
    vae_crop=64,
    vae_steps=30,
    vae_batch_size=8,
    phases=(
        Phase({64: 64}, steps=10, batch_size=8, learning_rate=1e-3),
        Phase({64: 16, 128: 16}, steps=4, batch_size=4, learning_rate=4e-4),
    ),
    decoder_steps=10,
)
"""Shows in a minute that every part works; it draws nothing."""
