"""The contact sheet: a row for every scene, its inputs on the left, what came out on the right."""

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from docs.gallery.scenes import Scene
from docs.gallery.workers import Made

__all__ = ["draw_sheet"]

_TILE, _GAP, _TITLE = 240, 12, 30
_COLUMNS = 4
_ARROW = 3 * _GAP
_WIDTH = _COLUMNS * (_TILE + _GAP) + _ARROW + _GAP
_PAPER, _INK, _FAINT = (250, 250, 248), (30, 30, 30), (120, 120, 120)


def draw_sheet(made: Sequence[tuple[Scene, Made]]) -> Image.Image:
    row = _TITLE + _TILE + 2 * _GAP
    sheet = Image.new("RGB", (_WIDTH, row * len(made) + _GAP), _PAPER)
    for index, (scene, result) in enumerate(made):
        _draw_row(sheet, index * row + _GAP, scene, result)
    return sheet


def _draw_row(sheet: Image.Image, top: int, scene: Scene, made: Made) -> None:
    draw = ImageDraw.Draw(sheet)
    draw.text((_GAP, top), scene.type.value, fill=_INK, font=ImageFont.load_default(17))
    draw.text((_GAP + 230, top + 2), scene.title, fill=_FAINT, font=ImageFont.load_default(15))
    left = _GAP
    for image in scene.inputs.values():
        left = _place(sheet, image, left, top + _TITLE)
    _draw_arrow(draw, left, top + _TITLE + _TILE // 2)
    left += _ARROW
    for image in made.images[: _COLUMNS - len(scene.inputs)]:
        left = _place(sheet, image, left, top + _TITLE)


def _draw_arrow(draw: ImageDraw.ImageDraw, left: int, middle: int) -> None:
    tip = left + _ARROW - _GAP
    draw.line((left, middle, tip - 6, middle), fill=_INK, width=2)
    draw.polygon([(tip, middle), (tip - 9, middle - 6), (tip - 9, middle + 6)], fill=_INK)


def _place(sheet: Image.Image, image: Image.Image, left: int, top: int) -> int:
    small = image.copy()
    small.thumbnail((_TILE, _TILE), Image.Resampling.LANCZOS)
    if small.mode == "RGBA":
        board = _checkerboard(small.size)
        board.paste(small, mask=small.getchannel("A"))
        small = board
    sheet.paste(small.convert("RGB"), (left, top + (_TILE - small.height) // 2))
    return left + small.width + _GAP


def _checkerboard(size: tuple[int, int], square: int = 12) -> Image.Image:
    board = Image.new("RGB", size, (235, 235, 235))
    draw = ImageDraw.Draw(board)
    for x in range(0, size[0], square):
        for y in range(0, size[1], square):
            if (x // square + y // square) % 2:
                draw.rectangle((x, y, x + square - 1, y + square - 1), fill=(205, 205, 205))
    return board
