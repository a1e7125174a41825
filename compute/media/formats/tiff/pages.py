"""TIFF: selects the page with the image.

Cameras, scanners and editors add thumbnails, masks or smaller copies, sometimes before the image.
"""

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from compute.errors import InvalidInput
from compute.media.formats.tiff.tags import Directory, Tags

__all__ = ["is_tiff", "strip"]

_MOST_PAGES = 100
_NEW_SUBFILE_TYPE, _SUBFILE_TYPE, _WIDTH, _HEIGHT, _SUB_PAGES = 254, 255, 256, 257, 330
_TAGS = frozenset({_NEW_SUBFILE_TYPE, _SUBFILE_TYPE, _WIDTH, _HEIGHT, _SUB_PAGES})
_REDUCED, _MASK = 1, 4
_OLD_REDUCED = 2
_SAME_SHAPE = 0.1


@dataclass(frozen=True, slots=True)
class _Page:
    """The offset of a page's tags, and their values. Sizes are in pixels."""

    offset: int
    width: int
    height: int
    reduced: bool
    mask: bool
    below: tuple[int, ...]

    @property
    def area(self) -> int:
        return self.width * self.height


def is_tiff(data: bytes) -> bool:
    return Tags.are_in(data)


def strip(data: bytes, field: str) -> io.BytesIO:
    """The file with the image's page first.

    That is the first page, unless it is marked as a smaller copy or a mask, or is an unmarked small copy of a later
    page: then it is the largest of the others, including subordinate pages. If all are marked as smaller copies, it is
    the largest.

    Raises:
        InvalidInput: every page is marked as a mask.
        TooManyParts: the image's page has more tags or values than any program writes.
    """
    tags = Tags(data)
    pages = _Pages(tags)
    chain = list(pages.chain())
    chosen = _chosen(chain, pages)
    if chosen is None and chain:
        raise InvalidInput("The TIFF contains only masks, no image.", field=field)
    file, first = io.BytesIO(data), tags.first
    if chosen is not None and chosen.offset != first:
        tags.start_at(chosen.offset, file)
        first = chosen.offset
    tags.tame(first, file)
    file.seek(0)
    return file


def _chosen(chain: Sequence[_Page], pages: "_Pages") -> _Page | None:
    if not chain:
        return None
    first, *later = chain
    if not (first.reduced or first.mask):
        larger = [page for page in later if not (page.reduced or page.mask) and _is_small_copy(first, page)]
        return max(larger, key=lambda page: page.area, default=first)
    images = [page for page in [*chain, *pages.below(chain)] if not page.mask]
    whole = [page for page in images if not page.reduced]
    return max(whole or images, key=lambda page: page.area, default=None)


def _is_small_copy(small: _Page, page: _Page) -> bool:
    """At most half as wide and high, and of the same shape within the rounding of a thumbnail's sides."""
    if 0 in (small.width, small.height, page.width, page.height):
        return False
    across, down = page.width / small.width, page.height / small.height
    return min(across, down) >= 2 and abs(across / down - 1) < _SAME_SHAPE


class _Pages:
    """Reads each page once, and no more than `_MOST_PAGES` of them."""

    def __init__(self, tags: Tags) -> None:
        self._tags = tags
        self._seen: set[int] = set()

    def chain(self) -> Iterator[_Page]:
        """Yield one page after another; the chain may be broken or circular."""
        offset = self._tags.first
        while offset and (page := self._page(offset)) is not None:
            yield page
            offset = self._tags.following(offset)

    def below(self, parents: Sequence[_Page]) -> list[_Page]:
        return [page for parent in parents for offset in parent.below if (page := self._page(offset))]

    def _page(self, offset: int) -> _Page | None:
        """Read the page at this offset; None if there is none, or it was read before."""
        if offset in self._seen or len(self._seen) >= _MOST_PAGES:
            return None
        self._seen.add(offset)
        found = Directory(self._tags, offset).values(_TAGS, most=_MOST_PAGES)
        if _WIDTH not in found or _HEIGHT not in found:
            return None
        kind = found.get(_NEW_SUBFILE_TYPE, (0,))[0]
        reduced = bool(kind & _REDUCED) or found.get(_SUBFILE_TYPE, (0,))[0] == _OLD_REDUCED
        below = found.get(_SUB_PAGES, ())
        return _Page(offset, found[_WIDTH][0], found[_HEIGHT][0], reduced, bool(kind & _MASK), below)
