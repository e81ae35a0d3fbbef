"""Composes pictures into a contact sheet: a title, and rows with a label above each."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from PIL import Image, ImageDraw, ImageFont

TILE: Final = 128
"""Side of a picture in pixels; smaller ones are enlarged."""

GAP: Final = 8
"""Pixels between pictures."""

MARGIN: Final = 24
"""Pixels around everything."""

LABEL_HEIGHT: Final = 32
"""Pixels of a row's label, with the space above it."""

TITLE_HEIGHT: Final = 40


@dataclass(frozen=True, kw_only=True)
class Row:
    """Pictures with something in common."""

    label: str
    pictures: Sequence[Image.Image]


def compose(title: str, rows: Sequence[Row]) -> Image.Image:
    """The sheet, as wide as its longest row or text, on white."""
    title_font = ImageFont.load_default(size=24)
    label_font = ImageFont.load_default(size=16)
    longest = max(len(row.pictures) for row in rows)
    texts = [title_font.getlength(title), *(label_font.getlength(row.label) for row in rows)]
    width = max(longest * (TILE + GAP) - GAP, *map(int, texts)) + 2 * MARGIN
    height = 2 * MARGIN + TITLE_HEIGHT + len(rows) * (LABEL_HEIGHT + TILE)
    sheet = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(sheet)
    draw.text((MARGIN, MARGIN), title, fill="black", font=title_font)
    top = MARGIN + TITLE_HEIGHT
    for row in rows:
        draw.text((MARGIN, top + LABEL_HEIGHT - 6), row.label, "#333", label_font, anchor="ls")
        top += LABEL_HEIGHT
        for column, picture in enumerate(row.pictures):
            sheet.paste(_tile(picture), (MARGIN + column * (TILE + GAP), top))
        top += TILE
    return sheet


def _tile(picture: Image.Image) -> Image.Image:
    """A picture at the tile's size; whole multiples keep small ones crisp."""
    enlarge = Image.Resampling.NEAREST if TILE % picture.width == 0 else Image.Resampling.LANCZOS
    return picture.convert("RGB").resize((TILE, TILE), enlarge)
