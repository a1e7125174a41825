"""What is said about a picture while a model learns it: from the trigger word, a text beside the file, or its name."""

import json
import re
import unicodedata
from pathlib import PurePosixPath

from compute.errors import InvalidInput
from compute.schemas.training import CaptioningStrategy

__all__ = ["MAX_CAPTION", "caption_for", "clean_caption", "read_metadata", "words_of_name"]

MAX_CAPTION = 2000
"""Characters."""

_TEXT_KEYS = ("text", "caption", "prompt")
"""What data sets call it; `text` is the field's."""
_CAMERA_WORDS = frozenset({"dsc", "dscf", "dscn", "image", "img", "photo", "picture", "pxl", "screenshot", "untitled"})
"""Names that cameras and programs give, which say nothing about the picture."""
_UTF_16_MARKS = (b"\xff\xfe", b"\xfe\xff")


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


def clean_caption(text: str | bytes) -> str:
    """One line without control characters, in Unicode's normal form C, at most MAX_CAPTION characters.

    Bytes are UTF-8, or UTF-16 with a byte order mark; what is neither becomes U+FFFD.
    """
    if isinstance(text, bytes):
        text = _decoded(text)
    visible = "".join(map(_visible, text))
    return unicodedata.normalize("NFC", " ".join(visible.split()))[:MAX_CAPTION].rstrip()


def words_of_name(file: str) -> str:
    """What a file's name says: `looks/red_dress-02.png` says "red dress".

    Numbers, codes that mix letters and digits, and what cameras call their files are left out.
    """
    stem = clean_caption(PurePosixPath(file).stem)
    words = [word.strip("0123456789") for word in re.split(r"[\W_]+", stem)]
    told = [word for word in words if word and not any(letter.isdigit() for letter in word)]
    return " ".join(word for word in told if word.casefold() not in _CAMERA_WORDS)


def read_metadata(data: bytes, *, name: str, most: int) -> list[tuple[str, str]]:
    """The rows of a `metadata.jsonl`, as the imagefolder of Hugging Face datasets has it: (file name, caption).

    `name` is what messages call the file; it has `most` rows at most.

    Raises:
        InvalidInput: a line is no JSON object with `file_name` and `text`, or there are too many.
    """
    # Not splitlines: JSON strings may hold separators such as U+2028 as they are.
    lines = [(number, line) for number, line in enumerate(_decoded(data).split("\n"), start=1) if line.strip()]
    if len(lines) > most:
        raise InvalidInput(f"{name} has {len(lines)} lines; at most {most} are read", field="dataset_url")
    return [_row(line, f"{name}, line {number}") for number, line in lines]


def _row(line: str, where: str) -> tuple[str, str]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"{where}: not JSON", field="dataset_url") from error
    if not isinstance(row, dict) or not isinstance(row.get("file_name"), str):
        raise InvalidInput(f'{where}: "file_name" is missing', field="dataset_url")
    texts = [row[key] for key in _TEXT_KEYS if isinstance(row.get(key), str)]
    if not texts:
        raise InvalidInput(f'{where}: "text", the caption, is missing', field="dataset_url")
    return row["file_name"], clean_caption(texts[0])


def _triggered(trigger: str, text: str) -> str:
    if not text:
        return trigger
    if re.search(rf"(?<!\w){re.escape(trigger)}(?!\w)", text, re.IGNORECASE):
        return text
    return f"{trigger}, {text}"[:MAX_CAPTION].rstrip()


def _decoded(data: bytes) -> str:
    encoding = "utf-16" if data.startswith(_UTF_16_MARKS) else "utf-8-sig"
    return data.decode(encoding, errors="replace")


def _visible(character: str) -> str:
    match unicodedata.category(character):
        case "Zl" | "Zp":
            return " "
        case "Cc":
            return " " if character.isspace() else ""
        case "Cs":
            # Half of a pair, which JSON can hold and UTF-8 cannot.
            return "\N{REPLACEMENT CHARACTER}"
        case _:
            return character
