"""A model that changes a picture a little: what an image model with real weights does at low strength, and the tiny
models with their random weights do not."""

import zlib
from dataclasses import dataclass, field

import cv2
import numpy as np
from PIL import Image

from compute.worker.protocol import GenerateRequest, OnStep


@dataclass
class Retoucher:
    """Adds grain to the picture, the stronger the more; which grain depends on all that a request says.

    Attributes:
        damage: Grain at strength 1, as a share of the whole range.
        requests: What was asked of it.
    """

    damage: float = 0.12
    name: str = "retoucher"
    requests: list[GenerateRequest] = field(default_factory=list)

    def prepare(self, request: GenerateRequest) -> GenerateRequest:
        assert request.image is not None
        assert request.image.size == (request.width, request.height)
        self.requests.append(request)
        return request

    def denoise(self, prepared: GenerateRequest, on_step: OnStep) -> Image.Image:
        assert prepared.image is not None
        steps = max(1, round(prepared.steps * prepared.strength))
        for step in range(steps):
            on_step(step + 1, steps)
        random = np.random.default_rng([prepared.seed, zlib.crc32(prepared.prompt.encode()), prepared.steps])
        grain = cv2.GaussianBlur(random.standard_normal((prepared.height, prepared.width, 3)), (0, 0), 1.5) * 5
        drawn = np.asarray(prepared.image) + grain * (255 * self.damage * prepared.strength)
        return Image.fromarray(np.clip(drawn, 0, 255).astype(np.uint8))

    def decode(self, latents: Image.Image) -> Image.Image:
        return latents

    def generate(self, request: GenerateRequest, on_step: OnStep) -> Image.Image:
        return self.decode(self.denoise(self.prepare(request), on_step))
