"""What the app shows, as a PNG: signs from a font; lines, blocks and dots as rectangles, so that cells join."""

import contextlib
from collections.abc import Sequence
from functools import cache
from io import BytesIO
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont
from rich.cells import cell_len
from rich.style import Style
from textual.strip import Strip

from bitnet_core.errors import BitnetError

WIDTH, HEIGHT = 14, 28
"""Of a cell, in pixels: a dot of braille is in the middle of a square of 7."""
_SIZE, _BASELINE = 23, 21
_FACES = {
    (bold, italic): f"DejaVuSansMono{'-' if bold or italic else ''}{'Bold' * bold}{'Oblique' * italic}.ttf"
    for bold in (False, True)
    for italic in (False, True)
}
_FOLDERS = (
    "/usr/share/fonts/truetype/dejavu", "/usr/share/fonts/dejavu-sans-mono-fonts", "/usr/share/fonts/TTF",
    "/Library/Fonts", str(Path.home() / ".local/share/fonts"), str(Path.home() / "Library/Fonts"),
)  # fmt: skip
_DOTS = ((0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (0, 3), (1, 3))
_ARMS = {
    "─": "lr", "│": "ud", "┌": "rd", "┐": "ld", "└": "ru", "┘": "lu", "├": "rud", "┤": "lud", "┬": "lrd", "┴": "lru",
    "┼": "lrud", "╭": "rd", "╮": "ld", "╰": "ru", "╯": "lu", "╴": "l", "╵": "u", "╶": "r", "╷": "d",
}  # fmt: skip
"""Of a line: left, right, up, down from the middle."""
_HEAVY = {"━": "lr", "┃": "ud", "╸": "l", "╹": "u", "╺": "r", "╻": "d"}
_DASHES = {"╌": 2, "┄": 3, "┈": 4, "╎": 2, "┊": 4}
_QUARTERS = dict(zip("▖▗▘▙▚▛▜▝▞▟", (4, 8, 1, 13, 9, 7, 11, 2, 6, 14), strict=True))
"""Bit by bit: upper left, upper right, lower left, lower right."""
Shape = tuple[int, int, int, int]
"""Left, top, width and height in pixels, from the corner of its cell."""


@cache
def _font(bold: bool, italic: bool) -> ImageFont.FreeTypeFont:
    """BitnetError if it is not here."""
    face = _FACES[(bold, italic)]
    for folder in _FOLDERS:
        with contextlib.suppress(OSError):
            return ImageFont.truetype(Path(folder, face), _SIZE)
    raise BitnetError(f"The font {face} is in none of {', '.join(_FOLDERS)}; install DejaVu Sans Mono.")


def shapes(sign: str) -> list[Shape] | None:
    """What fills a cell of this sign; None if the font draws it."""
    code, w, h = ord(sign), WIDTH, HEIGHT
    x, y = w // 2 - 1, h // 2 - 1
    if 0x2800 <= code <= 0x28FF:
        lit = (at for bit, at in enumerate(_DOTS) if code - 0x2800 >> bit & 1)
        return [(dx * w // 2 + 1, dy * h // 4 + 1, 5, 5) for dx, dy in lit]
    if 0x2581 <= code <= 0x2588:
        tall = round(h * (code - 0x2580) / 8)
        return [(0, h - tall, w, tall)]
    if 0x2589 <= code <= 0x258F:
        return [(0, 0, round(w * (0x2590 - code) / 8), h)]
    if sign in "▀▐▔▕":
        return [{"▀": (0, 0, w, h // 2), "▐": (w // 2, 0, w // 2, h), "▔": (0, 0, w, 4), "▕": (w - 2, 0, 2, h)}[sign]]
    if sign in _QUARTERS:
        lit = (at for bit, at in enumerate(((0, 0), (1, 0), (0, 1), (1, 1))) if _QUARTERS[sign] >> bit & 1)
        return [(dx * w // 2, dy * h // 2, w // 2, h // 2) for dx, dy in lit]
    if sign in _DASHES:
        many, upright = _DASHES[sign], sign in "╎┊"
        long = (h if upright else w) / many
        at = [(round(n * long + long / 4), round(long / 2)) for n in range(many)]
        return [(x, start, 2, length) if upright else (start, y, length, 2) for start, length in at]
    if sign == "║":
        return [(x - 2, 0, 2, h), (x + 2, 0, 2, h)]
    thick, arms = (4, _HEAVY[sign]) if sign in _HEAVY else (2, _ARMS.get(sign, ""))
    left, top = (w - thick) // 2, (h - thick) // 2
    ways = {
        "l": (0, top, left + thick, thick), "r": (left, top, w - left, thick),
        "u": (left, 0, thick, top + thick), "d": (left, top, thick, h - top),
    }  # fmt: skip
    return [ways[arm] for arm in arms] or None


def drawn(strips: Sequence[Strip], ink: str, paper: str) -> bytes:
    """These lines as a PNG. `ink` and `paper` are the colours of a cell that names none."""
    size = (max(strip.cell_length for strip in strips) * WIDTH, len(strips) * HEIGHT)
    image = Image.new("RGB", size, paper)
    pen = ImageDraw.Draw(image)
    for row, strip in enumerate(strips):
        column = 0
        for text, style, _ in strip:
            _put(pen, text, style or Style.null(), (column * WIDTH, row * HEIGHT), (ink, paper))
            column += cell_len(text)
    return _png(image)


def in_few_colours(path: Path) -> bytes:
    """A picture as a PNG of at most 256 colours, which is a third of the size."""
    with Image.open(path) as image:
        return _png(image.convert("RGB"))


def _png(image: Image.Image) -> bytes:
    out = BytesIO()
    image.quantize(256, dither=Image.Dither.NONE).save(out, "PNG", optimize=True)
    return out.getvalue()


def _put(pen: ImageDraw.ImageDraw, text: str, style: Style, at: tuple[int, int], usual: tuple[str, str]) -> None:
    """Text of one style, from the corner `at`."""
    (left, top), width = at, cell_len(text) * WIDTH
    front, back = (
        default if one is None or one.is_default else one.get_truecolor().hex
        for one, default in zip((style.color, style.bgcolor), usual, strict=True)
    )
    if style.reverse:
        front, back = back, front

    def fill(shape: Shape, left: int, colour: str) -> None:
        x, y, wide, tall = shape
        if wide:
            pen.rectangle((left + x, top + y, left + x + wide - 1, top + y + tall - 1), colour)

    fill((0, 0, width, HEIGHT), left, back)
    place = left
    for sign in text:
        found = shapes(sign)
        for shape in found or ():
            fill(shape, place, front)
        if found is None and sign.strip():
            font = _font(bool(style.bold), bool(style.italic))
            pen.text((place, top + _BASELINE), sign, front, font, anchor="ls")
        place += cell_len(sign) * WIDTH
    for line, height in ((style.underline, 24), (style.strike, 15)):
        if line:
            fill((0, height, width, 2), left, front)
