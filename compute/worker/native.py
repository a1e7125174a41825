"""A request at the size that its model draws well, and its result at the size that was asked for."""

from dataclasses import dataclass, replace
from typing import Any, TypeVar

from compute.imaging.resize import at_size, open_at
from compute.worker.protocol import GenerateRequest, Job, Size, VideoRequest

__all__ = ["SizedRequest", "sized_note", "wants_native"]

RequestT = TypeVar("RequestT", GenerateRequest, VideoRequest)


@dataclass(frozen=True, slots=True)
class SizedRequest:
    """A request as its model gets it, and the (width, height) of the result."""

    request: Any
    asked: Size

    @classmethod
    def at(cls, request: Any, size: Size) -> "SizedRequest":
        """Draw `request` at `size`. Models bring its images to that size themselves."""
        asked = request.width, request.height
        return cls(request if size == asked else _at_size(request, size), asked)

    def finished(self, denoised: Any) -> Any:
        """What the model drew, an image or a list of frames, at the size that was asked for."""
        if isinstance(denoised, list):
            return [at_size(frame, self.asked) for frame in denoised]
        return at_size(denoised, self.asked)


def wants_native(job: Job) -> bool:
    """Whether the request leaves the size at which is denoised to the model."""
    return bool(job.spec.get("native", True))


def sized_note(denoised: Size, result: Size) -> dict[str, Any]:
    """For a result's metadata: the size at which it was denoised, where that is another one."""
    return {} if denoised == result else {"drawn_at": {"width": denoised[0], "height": denoised[1]}}


def _at_size(request: RequestT, size: Size) -> RequestT:
    sized = replace(request, width=size[0], height=size[1])
    if isinstance(sized, GenerateRequest) and sized.mask is not None:
        return replace(sized, mask=open_at(sized.mask, size))
    return sized
