"""Transforms the images of a data set: crop, background removal, scaling to a bucket, mirroring.

Light to import: OpenCV is loaded when a background is removed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from PIL import Image, ImageOps
from pydantic import TypeAdapter, ValidationError

from compute.errors import InvalidInput
from compute.imaging.flatten import on_white
from compute.imaging.framing.geometry import Framing, plan
from compute.imaging.resize import covering_box, resized
from compute.imaging.segmentation.segment import check_model
from compute.schemas.rules.sentences import presented
from compute.schemas.transforms import BackgroundRemoval, Crop, Flip, Resize, Transform
from compute.training.dataset.buckets import bucket_of
from compute.training.dataset.images import MIN_SIDE, Rejected

__all__ = ["FIELD", "PreparedImage", "apply", "parse_transforms"]

FIELD = "preprocessing_transforms"

_TRANSFORMS: TypeAdapter[Transform] = TypeAdapter(Transform)
_TYPES = tuple(
    get_args(variant.model_fields["type"].annotation)[0] for variant in (Resize, Crop, Flip, BackgroundRemoval)
)
_ALIASES = {
    "center_crop": "crop",
    "horizontal_flip": "flip",
    "remove_background": "background_removal",
}
_POSITIONS = {"center": (0.5, 0.5), "top": (0.5, 0.0), "bottom": (0.5, 1.0)}


@dataclass(frozen=True, slots=True)
class PreparedImage:
    """An image ready for training.

    Attributes:
        image: Mode RGB, exactly of a bucket's size.
        flipped: Whether it is the mirror image.
        original_size: Width and height in pixels before scaling; after crops, if there were any.
        crop: Top and left of the part that was kept, in pixels of the scaled image.
    """

    image: Image.Image
    flipped: bool
    original_size: tuple[int, int]
    crop: tuple[int, int]

    @property
    def size_conditioning(self) -> tuple[int, int, int, int, int, int]:
        """SDXL's size conditions, in its order: original height and width, the crop's top and left, height and
        width."""
        width, height = self.original_size
        return height, width, *self.crop, self.image.height, self.image.width


def parse_transforms(items: Sequence[Any] | None) -> tuple[Transform, ...]:
    """Parse the transforms of a request: objects with a `type` (or `name`) and options.

    The aliases `center_crop`, `horizontal_flip` and `remove_background` are accepted. Each type may occur once.

    Raises:
        InvalidInput: one is wrong; `field` names it as `preprocessing_transforms.<index>`.
    """
    found: list[Transform] = []
    for index, item in enumerate(items or ()):
        transform = _parsed(item, f"{FIELD}.{index}")
        if any(transform.type == other.type for other in found):
            raise InvalidInput(f"A transform of type {transform.type} is listed twice.", field=f"{FIELD}.{index}")
        found.append(transform)
    return tuple(found)


def apply(
    image: Image.Image,
    transforms: Sequence[Transform],
    resolution: int,
    multiple: int,
    *,
    name: str,
    models_root: Path | None = None,
) -> list[PreparedImage] | Rejected:
    """Return an image (mode RGB or RGBA) as it is used in training, followed by its mirror image if requested.

    Crop and background removal run in the order of the list. Scaling to the bucket comes after them, mirroring last.
    `resolution`, which a Resize may override, and `multiple` are those of `buckets`, in pixels. A rejection calls the
    file `name`. A background removal takes CPU time, a second or two for a photograph.

    Raises:
        InvalidInput: the resolution is below `multiple`, or the segmentation model is not installed: no image of this
            data set could be prepared.
    """
    resize = next((item for item in transforms if isinstance(item, Resize)), Resize(type="resize"))
    for transform in transforms:
        if isinstance(transform, Crop):
            image = _cropped(image, transform)
        elif isinstance(transform, BackgroundRemoval):
            try:
                image = _cut_out(image, transform, models_root)
            except _NoSubject as error:
                return Rejected(name, error.reason)
    if min(image.size) < MIN_SIDE:
        return Rejected(name, f"too small: {image.width} x {image.height} pixels are left of it")
    prepared = _fitted(on_white(image), resize, resize.resolution or resolution, multiple, name)
    if isinstance(prepared, Rejected) or not any(isinstance(item, Flip) for item in transforms):
        return prepared if isinstance(prepared, Rejected) else [prepared]
    return [prepared, _mirrored(prepared)]


class _NoSubject(Exception):
    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def _parsed(item: Any, field: str) -> Transform:
    if not isinstance(item, dict):
        raise InvalidInput(f'A transform is an object such as {{"type": "flip"}}; {_known()}', field=field)
    settings = dict(item)
    asked = settings.pop("type") if "type" in settings else settings.pop("name", None)
    if not isinstance(asked, str):
        raise InvalidInput(f'A transform has a "type"; {_known()}', field=field)
    kind = asked.strip().casefold()
    kind = _ALIASES.get(kind, kind)
    if kind not in _TYPES:
        raise InvalidInput(f"There is no transform `{asked[:50]}`; {_known()}", field=field)
    try:
        transform = _TRANSFORMS.validate_python({"type": kind, **settings})
    except ValidationError as error:
        # Without the first part of the location, which is the union's variant.
        fault = presented([one | {"loc": one["loc"][1:]} for one in error.errors()])[0]
        path = ".".join(str(part)[:50] for part in (field, *fault["loc"]))
        raise InvalidInput(fault["msg"], field=path) from None
    if isinstance(transform, BackgroundRemoval):
        check_model(transform.model, field=f"{field}.model")
    return transform


def _known() -> str:
    return f"known: {', '.join(_TYPES)}."


def _cropped(image: Image.Image, crop: Crop) -> Image.Image:
    framing = Framing(mode="crop", aspect_ratio=crop.aspect_ratio, position=_POSITIONS[crop.anchor])
    left, top, right, bottom = plan(image.size, framing).source
    return image.crop((round(left), round(top), round(right), round(bottom)))


def _cut_out(image: Image.Image, removal: BackgroundRemoval, models_root: Path | None) -> Image.Image:
    """Cut out the subject and put it on one colour, mode RGB."""
    from compute.imaging.background import remove_background
    from compute.imaging.segmentation.segment import load_segmenter

    # A missing model concerns the whole data set.
    load_segmenter(removal.model, models_root)
    try:
        alone = remove_background(image, model=removal.model, models_root=models_root)
    except InvalidInput as error:
        raise _NoSubject(error.detail) from error
    paper = Image.new("RGBA", alone.size, removal.color)
    paper.alpha_composite(alone)
    return paper.convert("RGB")


def _fitted(image: Image.Image, resize: Resize, resolution: int, multiple: int, name: str) -> PreparedImage | Rejected:
    bucket = bucket_of(*image.size, resolution, multiple)
    scale = max(bucket.width / image.width, bucket.height / image.height)
    if scale > 1 and not resize.upscale:
        return Rejected(
            name,
            f"too small: {image.width} x {image.height} pixels would be enlarged to {bucket.width} x {bucket.height}",
        )
    left, top, *_ = covering_box(image.size, bucket)
    return PreparedImage(
        # Scaling the middle alone gives the same as scaling all and cropping, with less memory.
        image=resized(image, bucket),
        flipped=False,
        original_size=image.size,
        crop=(round(top * scale), round(left * scale)),
    )


def _mirrored(prepared: PreparedImage) -> PreparedImage:
    """Mirror the image. The crop is centred, so as much is cut off on the other side."""
    return PreparedImage(ImageOps.mirror(prepared.image), True, prepared.original_size, prepared.crop)
