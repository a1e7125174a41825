"""Native sizes: a request is generated at a size that suits the model and its result resized to the requested size."""

from dataclasses import dataclass, replace
from typing import Any, TypeVar

from compute.imaging.resize import at_size, open_at
from compute.worker.protocol import GenerateRequest, Job, Size, VideoRequest

__all__ = ["SizedRequest", "sized_note", "wants_native"]

RequestT = TypeVar("RequestT", GenerateRequest, VideoRequest)


@dataclass(frozen=True, slots=True)
class SizedRequest:
    """A request at the size the model generates, and `asked`, the (width, height) of the result."""

    request: Any
    asked: Size

    @classmethod
    def at(cls, request: Any, size: Size) -> "SizedRequest":
        """The request at `size`. Models resize its images to that size themselves; its mask is resized here."""
        asked = request.width, request.height
        return cls(request if size == asked else _at_size(request, size), asked)

    def finished(self, denoised: Any) -> Any:
        """Resize the model's output, an image or a list of frames, to the requested size."""
        if isinstance(denoised, list):
            return [at_size(frame, self.asked) for frame in denoised]
        return at_size(denoised, self.asked)


def wants_native(job: Job) -> bool:
    """Whether the request lets the model choose the size at which it generates."""
    return bool(job.spec.get("native", True))


def sized_note(denoised: Size, result: Size) -> dict[str, Any]:
    """Metadata of a result: the size at which it was generated, if that is another one."""
    return {} if denoised == result else {"drawn_at": {"width": denoised[0], "height": denoised[1]}}


def _at_size(request: RequestT, size: Size) -> RequestT:
    sized = replace(request, width=size[0], height=size[1])
    if isinstance(sized, GenerateRequest) and sized.mask is not None:
        return replace(sized, mask=open_at(sized.mask, size))
    return sized
