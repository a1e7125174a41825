"""The pages of the documentation and their fenced blocks."""

import re
import textwrap
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[3]
_FENCED = re.compile(r"^( *)```(\S*)\n(.*?)^\1```$", re.DOTALL | re.MULTILINE)
_FENCE = re.compile(r"^ *```", re.MULTILINE)
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block: its page (relative to the project), the line of its fence, its language and its text."""

    page: str
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


@cache
def pages() -> tuple[str, ...]:
    """Every page that somebody reads in order to use or change Compute; CHANGELOG.md tells of the past."""
    found = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *ROOT.glob("[!.]*/README.md")]
    return tuple(sorted({str(path.relative_to(ROOT)) for path in found} - {"CHANGELOG.md"}))


def read(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


@cache
def blocks_of(page: str) -> tuple[Block, ...]:
    """The blocks of a page, in their order."""
    text = read(page)
    found = [
        Block(page, text[: match.start()].count("\n") + 1, match[2], textwrap.dedent(match[3]))
        for match in _FENCED.finditer(text)
    ]
    fences = len(_FENCE.findall(text))
    assert fences == 2 * len(found), f"{page}: a fence is open, or of another form than ```language"
    return tuple(found)


@cache
def blocks() -> tuple[Block, ...]:
    """The blocks of all pages."""
    return tuple(block for page in pages() for block in blocks_of(page))


def prose(page: str) -> str:
    """A page without its blocks."""
    return _FENCED.sub("", read(page))


def anchors(page: str) -> set[str]:
    """What a link to a section of this page may say behind `#`, as forges make it of headings."""
    made: set[str] = set()
    for heading in _HEADING.findall(prose(page)):
        words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
        slug = re.sub(r"[^\w\- ]", "", words).replace(" ", "-")
        number = 0
        while (name := f"{slug}-{number}" if number else slug) in made:
            number += 1
        made.add(name)
    return made
