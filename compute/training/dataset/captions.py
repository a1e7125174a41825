"""What is said about a picture while a model learns it: from the trigger word, a text beside the file, or its name."""

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
# Normal form C makes one character of a few; to make it takes time with the square of a run of accents.
_MOST_NORMALISED = 4 * MAX_CAPTION

DAMAGED = "\N{REPLACEMENT CHARACTER}"
"""What programs put in the place of letters that they could not read."""

_TEXT_KEYS = ("text", "caption", "prompt")
"""What data sets call it; `text` is the field's."""
_CAMERA_WORDS = frozenset({"dsc", "dscf", "dscn", "image", "img", "photo", "picture", "pxl", "screenshot", "untitled"})
"""Names that cameras and programs give, which say nothing about the picture."""
_MOST_FAULTS = 50


def caption_for(strategy: CaptioningStrategy, *, trigger_word: str, file: str, text: str | None = None) -> str:
    """The caption of one picture, at most MAX_CAPTION characters.

    `trigger_only` is the trigger word alone. `filename` is `text`, which stood beside the file; without one, the words
    of the file's name. The trigger word comes first, unless it is in there.

    Raises:
        InvalidInput: the strategy needs a model that looks at the picture.
    """
    trigger = clean_caption(trigger_word)
    match strategy:
        case CaptioningStrategy.TRIGGER_ONLY:
            return trigger
        case CaptioningStrategy.FILENAME:
            return _triggered(trigger, clean_caption(text or "") or words_of_name(file))
        case CaptioningStrategy.VISION:
            raise InvalidInput(
                "no model that describes pictures is set up; use trigger_only or filename",
                field="preprocessing_captioning_strategy",
            )


def clean_caption(text: str) -> str:
    """One line without control characters, in Unicode's normal form C, at most MAX_CAPTION characters."""
    visible = "".join(map(_visible, text))
    line = " ".join(visible.split())[:_MOST_NORMALISED]
    return unicodedata.normalize("NFC", line)[:MAX_CAPTION].rstrip()


def words_of_name(file: str) -> str:
    """What a file's name says: `looks/red_dress-02.png` says "red dress".

    Numbers, codes that mix letters and digits, and what cameras call their files are left out.
    """
    stem = clean_caption(PurePosixPath(file).stem)
    words = [word.strip("0123456789") for word in re.split(r"[\W_]+", stem)]
    told = [word for word in words if word and not any(letter.isdigit() for letter in word)]
    return " ".join(word for word in told if word.casefold() not in _CAMERA_WORDS)


def read_metadata(data: bytes, *, name: str, most: int) -> tuple[list[tuple[str, str]], list[str]]:
    """The rows of a `metadata.jsonl`, as the imagefolder of Hugging Face datasets has it: (file name, caption).

    What is wrong with rows that are passed over comes second.

    `name` is what messages call the file; it has `most` rows at most.

    Raises:
        InvalidInput: there are too many.
    """
    text = decode_text(data)
    if text is None:
        return [], ["its encoding cannot be told; save it as UTF-8"]
    # Not splitlines: JSON strings may hold separators such as U+2028 as they are.
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
    """A file's name and its caption, or what is wrong."""
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
        return "the caption was damaged before (it holds U+FFFD)"
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
            # Half of a pair, which JSON can hold and UTF-8 cannot.
            return ""
        case _:
            return character
