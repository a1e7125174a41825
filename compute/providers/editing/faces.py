"""Edits the faces of an image, each in a close view."""

from functools import partial

from PIL import Image

from compute.imaging.colour import match_colour
from compute.imaging.faces import Face, detect_faces, pick_detector
from compute.imaging.resize import at_size
from compute.providers.editing.bench import Bench
from compute.providers.editing.consistency import EditedPart
from compute.providers.editing.editor import ImageEditor
from compute.providers.editing.patches import PatchSettings, edit_patches, expanded

__all__ = ["edit_faces", "face_instruction", "face_patch", "find_faces"]

_MOST_FACES = 8
_INSTRUCTION = (
    "This is a close view of a person's face in a fashion photograph. Make the same photograph with the face in full "
    "sharpness: clear irises and lashes, natural teeth, skin with pores and fine hair, every strand at the hairline. "
    "Nothing moves: head, gaze, mouth, hair, light and background stay exactly where they are, and the framing is the "
    "same to the pixel."
)
_IDENTITY = (
    "It is the same person: age, features, proportions, make-up, skin tone and marks of the skin do not change at all."
)


def face_instruction(*, which: str | None = None, prompt: str | None = None, keeps_identity: bool = True) -> str:
    """What an editor is told about a face.

    Args:
        which: What the faces are that are meant.
        prompt: What they should look like.
    """
    lines = [_INSTRUCTION, _IDENTITY] if keeps_identity else [_INSTRUCTION]
    if which:
        lines.append(f"The face that is meant: {which}. Leave any other face as it is.")
    if prompt:
        lines.append(f"It should look like this: {prompt}")
    return "\n".join(lines)


async def find_faces(bench: Bench, image: Image.Image) -> list[Face]:
    """The faces of an image, the largest first, by the best detector that is installed."""
    detector, model_path = pick_detector(bench.models_root)
    return await bench.compute(partial(detect_faces, image, detector=detector, model_path=model_path))


def face_patch(edited: Image.Image, original: Image.Image) -> Image.Image:
    """An edit at the size and with the colours (in L*a*b*) of its original."""
    return match_colour(at_size(edited, original.size), original)


async def edit_faces(
    bench: Bench,
    editor: ImageEditor,
    image: Image.Image,
    faces: list[Face],
    settings: PatchSettings,
    *,
    expand: float,
) -> list[EditedPart]:
    """Edit the largest faces of an RGB image, in place, in boxes that are larger than a face by `expand` of its sides.

    Raises:
        ProviderFailed, CallUncertain: as `ImageEditor.edit`.
    """
    boxes = [expanded(face.box, expand, image.size) for face in faces[:_MOST_FACES]]
    return await edit_patches(bench, editor, image, boxes, settings)
