"""Decodes text of unknown encoding where the encoding is certain, and refuses to guess otherwise.

Statistical detectors need pages of text; file names and captions have a few words. But each of the usual Windows
encodings has its common characters in a narrow range of bytes, and text of another encoding that
stays within it is improbable from three characters on.
"""

import re
import unicodedata

__all__ = ["decode_text", "legacy_encoding"]

_MARKS = (
    (b"\xef\xbb\xbf", "utf-8-sig"),
    (b"\xff\xfe\x00\x00", "utf-32"),
    (b"\x00\x00\xfe\xff", "utf-32"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)
_KANA = re.compile("[\u3041-\u3096\u30a1-\u30fa]")
_JAPANESE = re.compile("[\u3000-\u30ff\u4e00-\u9fff\uff00-\uff5e\u2010-\u2026]*")
# The 2,350 syllables of EUC-KR; those that Windows added are rare, and overlap with Japanese.
_HANGUL = re.compile(rb"(?:[\xb0-\xc8][\xa1-\xfe]){3,}")
# The common characters of GB 2312, which are sorted by pronunciation, and its punctuation.
_GB_EVERYDAY = re.compile(rb"(?:[\xb0-\xd7][\xa1-\xfe]|[\xa1\xa3][\xa1-\xfe])+")
_BIG5_EVERYDAY = re.compile(rb"(?:[\xa4-\xc6][\x40-\x7e\xa1-\xfe]|\xa1[\x40-\x7e\xa1-\xfe])+")
_RUN_OF_PAIRS = re.compile(rb"(?:[\x80-\xff][\x00-\xff])+")
_LONG_RUN = 3
_DOS_LETTERS = frozenset(b"\x80\x81\x82\x83\x84\x85\x86\x87\x88\x89\x8a\x8b\x8c\x8d\x8e\x8f\x90\x91\x92\x93\x94\x95\x96"
                         b"\x97\x98\x99\x9a\xa0\xa1\xa2\xa3\xa4\xa5\xe1")  # fmt: skip
# Letters, except those of Icelandic, whose codes Turkish uses for more frequent ones; and the signs of word
# processors: quotes, dashes, an ellipsis, a degree, the euro.
_WINDOWS_LETTERS = frozenset(range(0xC0, 0x100)) - frozenset(b"\xd0\xd7\xdd\xde\xf0\xf7\xfd\xfe") | frozenset(
    b"\x8a\x8c\x8e\x9a\x9c\x9e\x9f"
)
_WINDOWS_SIGNS = frozenset(b"\x80\x82\x84\x85\x91\x92\x93\x94\x96\x97\xa0\xa9\xab\xae\xb0\xb4\xb7\xbb")
_HIGH_WORD = re.compile(rb"[\x80-\xff]{3,}")
_CYRILLIC_DOS = frozenset([*range(0x80, 0xB0), *range(0xE0, 0xF2)])
_VOWELS = frozenset("аеёиоуыэюя")
_CYRILLIC_WINDOWS = frozenset([*range(0xC0, 0x100), 0xA8, 0xB8])


def decode_text(data: bytes) -> str | None:
    """Decode the content of a text file; None if the encoding is uncertain.

    It is UTF-8, UTF-16 or UTF-32, or an encoding that `legacy_encoding` is certain of.
    """
    encoding = next((name for mark, name in _MARKS if data.startswith(mark)), None) or _by_zeros(data)
    if encoding is None and (text := _decoded(data, "utf-8")) is not None:
        return text
    encoding = encoding or legacy_encoding(data)
    return None if encoding is None else _decoded(data, encoding)


def legacy_encoding(data: bytes, *, names: bool = False) -> str | None:
    """Return the encoding of bytes that are not UTF-8: cp932, cp949, gb18030, big5, cp866, cp1251, cp1252 or cp437.

    `names`: the bytes are names from a zip archive, where DOS code pages are common.
    """
    high = [byte for byte in data if byte >= 0x80]
    if _stand_apart(data) and (encoding := _of_two_bytes(data)):
        return encoding
    if _HIGH_WORD.search(data):
        return _cyrillic(high)
    if names and set(high) <= _DOS_LETTERS:
        return "cp437"
    if set(high) <= _WINDOWS_LETTERS | _WINDOWS_SIGNS and _decoded(data, "cp1252") is not None:
        return "cp1252"
    return None


def _stand_apart(data: bytes) -> bool:
    """Return whether two-byte characters would be separate from Latin words.

    Within a word they are probably accented letters of another encoding, each with the letter behind it.
    """
    apart = within = 0
    for run in _RUN_OF_PAIRS.finditer(data):
        pairs = (run.end() - run.start()) // 2
        beside_letters = data[run.start() - 1 : run.start()].isalpha() or data[run.end() : run.end() + 1].isalpha()
        if pairs < _LONG_RUN and beside_letters:
            within += pairs
        else:
            apart += pairs
    return apart > within


def _of_two_bytes(data: bytes) -> str | None:
    text = _decoded(data, "cp932")
    if text is not None and _is_japanese(text):
        return "cp932"
    if _HANGUL.fullmatch(b"".join(bytes(pair) for pair in _pairs(data))):
        return "cp949"
    if _is_chinese(data, _GB_EVERYDAY, "gb18030"):
        return "gb18030"
    if any(byte < 0x80 for _, byte in _pairs(data)) and _is_chinese(data, _BIG5_EVERYDAY, "big5"):
        return "big5"
    return None


def _by_zeros(data: bytes) -> str | None:
    """Detect UTF-16 without a byte order mark: mostly Latin text has a zero in every other byte."""
    if b"\0" not in data or len(data) % 2:
        return None
    even, odd = data[::2].count(0) * 2 / len(data), data[1::2].count(0) * 2 / len(data)
    return "utf-16-le" if odd > 0.6 > 0.2 > even else "utf-16-be" if even > 0.6 > 0.2 > odd else None


def _decoded(data: bytes, encoding: str) -> str | None:
    try:
        return data.decode(encoding)
    except UnicodeDecodeError:
        return None


def _is_japanese(text: str) -> bool:
    others = "".join(character for character in text if not character.isascii())
    return _KANA.search(others) is not None and _JAPANESE.fullmatch(others) is not None


def _is_chinese(data: bytes, everyday: re.Pattern[bytes], encoding: str) -> bool:
    """Return whether runs of two-byte characters have common characters only, at least three of them."""
    pairs = b"".join(bytes(pair) for pair in _pairs(data))
    if len(pairs) < 6 or everyday.fullmatch(pairs) is None:
        return False
    text = _decoded(data, encoding)
    return text is not None and sum(unicodedata.category(one) == "Lo" for one in text) >= 3


def _pairs(data: bytes) -> list[tuple[int, int]]:
    """Pairs of a high byte and the byte after it."""
    found, offset = list[tuple[int, int]](), 0
    while offset < len(data):
        if data[offset] < 0x80:
            offset += 1
            continue
        found.append((data[offset], data[offset + 1] if offset + 1 < len(data) else 0))
        offset += 2
    return found


def _cyrillic(high: list[int]) -> str | None:
    """Detect Russian among encodings that share the same bytes.

    Russian text has lower-case letters and vowels, and a letter that Hebrew does not have.
    """
    if not any(byte < 0xE0 or byte > 0xFA for byte in high):
        return None
    encoding = "cp866" if set(high) <= _CYRILLIC_DOS else "cp1251" if set(high) <= _CYRILLIC_WINDOWS else None
    if encoding is None:
        return None
    text = bytes(high).decode(encoding)
    vowels = sum(letter in _VOWELS for letter in text.lower()) / len(text)
    return encoding if sum(letter.islower() for letter in text) > len(text) / 2 and 0.3 < vowels < 0.65 else None
