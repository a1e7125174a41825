"""Captions of training images: from the trigger word, a text file or metadata, or the file's name."""

import json
import re
import unicodedata
from pathlib import PurePosixPath

from compute.errors import InvalidInput
from compute.schemas.training import CaptioningStrategy
from compute.training.dataset.encodings import decode_text

__all__ = ["DAMAGED", "MAX_CAPTION", "caption_for", "clean_caption", "read_metadata", "words_of_name"]

MAX_CAPTION = 2000
"""Characters."""
# Normal form C joins a few characters to one; the time for it grows with the square of a run of accents.
_MOST_NORMALISED = 4 * MAX_CAPTION

DAMAGED = "\N{REPLACEMENT CHARACTER}"
"""The character that programs substitute for letters that they could not decode."""

_TEXT_KEYS = ("text", "caption", "prompt")
"""Keys of the caption in data sets; `text` is the usual one."""
_CAMERA_WORDS = frozenset({"dsc", "dscf", "dscn", "image", "img", "photo", "picture", "pxl", "screenshot", "untitled"})
"""Words of names given by cameras and programs, which do not describe the image."""
_MOST_FAULTS = 50


def caption_for(strategy: CaptioningStrategy, *, trigger_word: str, file: str, text: str | None = None) -> str:
    """Return the caption of one image, at most MAX_CAPTION characters.

    `trigger_only` gives the trigger word alone. `filename` gives `text`, the caption from the data set, or else the
    words of the file's name; so does `vision`, whose `text` is a vision model's, or that of the data set where the
    model gave none. The trigger word is put first, unless the caption contains it.

    Example:
        caption_for(CaptioningStrategy.FILENAME, trigger_word="zxd", file="red_dress-02.png")  # "zxd, red dress"
    """
    trigger = clean_caption(trigger_word)
    match strategy:
        case CaptioningStrategy.TRIGGER_ONLY:
            return trigger
        case CaptioningStrategy.FILENAME | CaptioningStrategy.VISION:
            return _triggered(trigger, clean_caption(text or "") or words_of_name(file))


def clean_caption(text: str) -> str:
    """Return the text on one line without control characters, in Unicode's normal form C, at most MAX_CAPTION
    characters."""
    visible = "".join(map(_visible, text))
    line = " ".join(visible.split())[:_MOST_NORMALISED]
    return unicodedata.normalize("NFC", line)[:MAX_CAPTION].rstrip()


def words_of_name(file: str) -> str:
    """Return the words of a file's name: `looks/red_dress-02.png` gives "red dress".

    Numbers, codes that mix letters and digits, and camera names are left out.
    """
    stem = clean_caption(PurePosixPath(file).stem)
    words = [word.strip("0123456789") for word in re.split(r"[\W_]+", stem)]
    told = [word for word in words if word and not any(letter.isdigit() for letter in word)]
    return " ".join(word for word in told if word.casefold() not in _CAMERA_WORDS)


def read_metadata(data: bytes, *, name: str, most: int) -> tuple[list[tuple[str, str]], list[str]]:
    """Read the rows of a `metadata.jsonl` in the format of Hugging Face's imagefolder.

    Returns the (file name, caption) pairs, and the faults of rows that were skipped.
    Messages call the file `name`.

    Raises:
        InvalidInput: there are more than `most` rows.
    """
    text = decode_text(data)
    if text is None:
        return [], ["its encoding cannot be told; save it as UTF-8"]
    # Not splitlines: JSON strings may contain separators such as U+2028.
    lines = [(number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]
    if len(lines) > most:
        raise InvalidInput(f"{name} has {len(lines)} lines; at most {most} are read", field="dataset_url")
    rows: list[tuple[str, str]] = []
    faults: list[str] = []
    for number, line in lines:
        row = _row(line)
        if isinstance(row, str):
            faults.append(f"line {number}: {row}")
        else:
            rows.append(row)
    if len(faults) > _MOST_FAULTS:
        faults[_MOST_FAULTS:] = [f"{len(faults) - _MOST_FAULTS} more lines are passed over"]
    return rows, faults


def _row(line: str) -> tuple[str, str] | str:
    """A file's name and its caption, or the fault of the row."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return "not JSON"
    if not isinstance(row, dict) or not isinstance(row.get("file_name"), str):
        return '"file_name" is missing'
    texts = [row[key] for key in _TEXT_KEYS if isinstance(row.get(key), str)]
    if not texts:
        return '"text", the caption, is missing'
    if DAMAGED in texts[0]:
        return "the caption is damaged (it contains U+FFFD)"
    return row["file_name"], clean_caption(texts[0])


def _triggered(trigger: str, text: str) -> str:
    if not text:
        return trigger
    if re.search(rf"(?<!\w){re.escape(trigger)}(?!\w)", text, re.IGNORECASE):
        return text
    return f"{trigger}, {text}"[:MAX_CAPTION].rstrip()


def _visible(character: str) -> str:
    match unicodedata.category(character):
        case "Zl" | "Zp":
            return " "
        case "Cc":
            return " " if character.isspace() else ""
        case "Cs":
            # Half of a surrogate pair, which JSON can contain and UTF-8 cannot.
            return ""
        case _:
            return character
