"""The small warm-up request that a replica generates before its first task."""

from PIL import Image

from compute.worker.protocol import GenerateRequest, Role, VideoRequest

__all__ = ["warm_up_request"]

_SIDE = 64


def warm_up_request(role: Role) -> GenerateRequest | VideoRequest:
    """A small request that a model of this role can serve."""
    image = Image.new("RGB", (_SIDE, _SIDE), "gray") if role in ("fill", "video") else None
    if role == "video" and image is not None:
        return VideoRequest(
            image, "warm up", width=_SIDE, height=_SIDE, frames=9, fps=8, steps=1, guidance_scale=1.0, seed=0
        )
    mask = Image.new("L", (_SIDE, _SIDE), 255) if role == "fill" else None
    return GenerateRequest(
        prompt="warm up",
        width=_SIDE,
        height=_SIDE,
        steps=1,
        guidance_scale=1.0,
        seed=0,
        image=image,
        mask=mask,
        role=role,
    )
