"""A request at the size that its model draws well, and its result at the size that was asked for."""

from dataclasses import dataclass, replace
from typing import Any, TypeVar

from PIL import Image

from compute.tasks.protocol import GenerateRequest, Job, Size, VideoRequest

__all__ = ["Drawing", "drawn_note", "sized_note", "wants_native"]

RequestT = TypeVar("RequestT", GenerateRequest, VideoRequest)


@dataclass(frozen=True, slots=True)
class Drawing:
    """A request as its model gets it, and the (width, height) of the result."""

    request: Any
    asked: Size

    @classmethod
    def at(cls, request: Any, size: Size) -> "Drawing":
        """Draw `request` at `size`. Models bring its pictures to that size themselves."""
        asked = request.width, request.height
        return cls(request if size == asked else _at_size(request, size), asked)

    def finished(self, drawn: Any) -> Any:
        """What the model drew, a picture or a list of frames, at the size that was asked for."""
        if isinstance(drawn, list):
            return [_sized(frame, self.asked) for frame in drawn]
        return _sized(drawn, self.asked)


def wants_native(job: Job) -> bool:
    """Whether the request leaves the size at which is drawn to the model."""
    return bool(job.spec.get("native", True))


def sized_note(drawn: Size, result: Size) -> dict[str, Any]:
    """For a result's metadata: the size at which it was drawn, where that is another one."""
    return {} if drawn == result else drawn_note(drawn)


def drawn_note(size: Size) -> dict[str, Any]:
    """For a result's metadata: the size at which it was drawn."""
    return {"drawn_at": {"width": size[0], "height": size[1]}}


def _at_size(request: RequestT, size: Size) -> RequestT:
    sized = replace(request, width=size[0], height=size[1])
    if isinstance(sized, GenerateRequest) and sized.mask is not None:
        return replace(sized, mask=_mask_at(sized.mask, size))
    return sized


def _mask_at(mask: Image.Image, size: Size) -> Image.Image:
    # A box filter misses no pixel of what is open, however much smaller it becomes.
    return mask.convert("L").resize(size, Image.Resampling.BOX).point(lambda value: 255 if value else 0)


def _sized(picture: Image.Image, size: Size) -> Image.Image:
    return picture if picture.size == size else picture.resize(size, Image.Resampling.LANCZOS)
