"""A data set for a first training: eight pictures of a kimono, which the demo model does not know.

`tools.demo_model.samples` draws them; each file's name says what it shows.
"""

import shutil
from pathlib import Path

__all__ = ["copy_demo_dataset"]


def copy_demo_dataset(folder: Path) -> list[Path]:
    """Copy the pictures into the folder, which is made if need be. Returns the copies in the order of their numbers.

    Raises:
        OSError: the folder cannot be written to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pictures = sorted(Path(__file__).parent.glob("*.png"), key=_number)
    return [shutil.copyfile(picture, folder / picture.name) for picture in pictures]


def _number(picture: Path) -> int:
    return int(picture.stem.rsplit("-", 1)[1])
