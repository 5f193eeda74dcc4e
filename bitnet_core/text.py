"""Text for people, the same on the command line and in the app: numbers, and text from outside made safe.

Pure functions. `tables.py` puts tables into text, `runs/event_words.py` events into words.
"""

import math
import re
import unicodedata
from collections.abc import Iterator, Sequence

UNKNOWN = "–"
STATES = {
    "new": ("·", "new"),
    "starting": ("◦", "starting"),
    "running": ("▸", "running"),
    "done": ("✓", "done"),
    "succeeded": ("✓", "done"),
    "outdated": ("↻", "outdated"),
    "failed": ("✗", "failed"),
    "cancelled": ("■", "stopped"),
    "interrupted": ("!", "interrupted"),
}
"""A glyph and a word for each state of a stage or run. The glyphs are one cell wide and differ without colour."""
BYTES = "bytes"
"""The unit, and the name of a column, whose numbers are written as sizes."""
_THOUSANDS = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
_STEPS = "steps"
_LAST_ZEROS = re.compile(r"(?:\.|(?<!0))0++(?=e)")


def state_word(state: str) -> str:
    """The word that people read for a state: `stopped` for `cancelled`. Of an unknown state, the state itself."""
    return STATES.get(state, ("", state))[1]


# -- numbers ---------------------------------------------------------------------------------------------
def finite(value: object) -> float | None:
    """The value as a float if it is a finite number; None for anything else (text, bool, NaN, too large)."""
    if type(value) is float:  # nearly all values are: this is called many times for each event of a run
        return value if math.isfinite(value) else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        found = float(value)
    except OverflowError:
        return None
    return found if math.isfinite(found) else None


def natural(value: object) -> int | None:
    """The value if it is a whole number from 0 that 63 bits can hold; None for anything else (float, bool, text)."""
    return value if type(value) is int and 0 <= value < 1 << 63 else None


def finite_in(text: str) -> float | None:
    """The finite number that a text is, blanks around it allowed; None for any other text."""
    try:
        return finite(float(text))
    except ValueError:
        return None


def number(value: float | None, digits: int = 4) -> str:
    """`12345` → `12,345`, `0.84312` → `0.8431`, `0.0000841` → `8.410e-5`; a whole number is written whole."""
    if value is not None and abs(value) < 1e15 and value == int(value):
        return f"{int(value):,}"
    return significant(finite(value), digits)


def significant(value: float | None, digits: int = 3) -> str:
    """`0.8431` → `0.843`, `12.34` → `12.3`, `0.0000841` → `8.41e-5`. Trailing zeros stay, so that columns line up."""
    value = finite(value)
    if value is None:
        return UNKNOWN
    if value == 0:
        return "0"
    exponent = math.floor(math.log10(abs(value)))
    if exponent < -3 or exponent > 5:
        return scientific(value, digits)
    return f"{value:.{max(0, digits - 1 - exponent)}f}"


def scientific(value: float | None, digits: int = 3) -> str:
    """`0.00110` → `1.10e-3`."""
    value = finite(value)
    if value is None:
        return UNKNOWN
    mantissa, _, exponent = f"{value:.{digits - 1}e}".partition("e")
    return f"{mantissa}e{int(exponent)}"


def learning_rate(rate: float | None, digits: int = 3) -> str:
    """`0.0006` → `6e-4`, `0.0015` → `1.5e-3`."""
    return _LAST_ZEROS.sub("", scientific(rate, digits))


def files(number: int) -> str:
    """`1 file`, `12 files`."""
    return f"{number} file{'' if number == 1 else 's'}"


def epochs(number: float) -> str:
    """`1 epoch`, `0.5 epochs`, `4 epochs`."""
    return f"{number:.4g} epoch{'' if number == 1 else 's'}"


def count(value: float | None) -> str:
    """`950` → `950`, `87412` → `87.4k`, `1500000` → `1.5M`."""
    value = finite(value)
    if value is None:
        return UNKNOWN
    for unit, letter in _THOUSANDS:
        if abs(value) >= unit * 0.9995:
            scaled = value / unit
            text = f"{scaled:.0f}" if abs(scaled) >= 99.95 else f"{scaled:.1f}"
            return text.removesuffix(".0") + letter
    return f"{value:.0f}" if abs(value) >= 99.95 or value == int(value) else f"{value:.1f}"


def size(value: float | None) -> str:
    """Bytes with decimal prefixes: `93 MB`, `1.3 GB`."""
    value = finite(value)
    if value is None:
        return UNKNOWN
    text = count(value)
    return f"{text[:-1]} {text[-1]}B" if text[-1].isalpha() else f"{text} B"


def size_of(part: float, whole: float) -> str:
    """`6.1/8.3 GB`, `  6/8.3 GB`, ` 6.1/25.3 GB`, `0.9/8.3 GB`: both in the unit of the whole."""
    figure, _, unit = size(whole).partition(" ")
    longest = len("9.9") if len(figure.partition(".")[0]) == 1 else len("99.9")
    of_unit = next((scale for scale, letter in _THOUSANDS if unit == f"{letter}B"), 1.0)
    return f"{count(part / of_unit):>{longest}}/{figure} {unit}"


def in_layers(some: float | None, layers: float | None) -> str:
    """` in 3 of 6 layers`; empty if it is none or all of them, or if that is not known."""
    return f" in {some:.0f} of {layers:.0f} layers" if some and layers and some < layers else ""


def percent(part: float | None, whole: float | None) -> str:
    """`58%`. Rounds down: 100% means complete."""
    part, whole = finite(part), finite(whole)
    if part is None or not whole or whole < 0:
        return UNKNOWN
    return f"{math.floor(max(0.0, min(1.0, part / whole)) * 100 + 1e-9)}%"


def share(ratio: float | None) -> str:
    """`0.1234` → `12.3%`; a share that would be written as 0 has one digit, as in `0.002%`."""
    ratio = finite(ratio)
    if ratio is None:
        return UNKNOWN
    return f"{ratio:.1%}" if ratio == 0 or abs(ratio) >= 0.0005 else f"{significant(100 * ratio, 1)}%"


def rate_tick(rate: float, step: float) -> str:
    """As `tick`, of learning rates: `2e-4`, `1.5e-3`."""
    if abs(rate) <= step / 2:
        return "0"
    digits = 1 + math.floor(math.log10(abs(rate)) + 1e-9) - math.floor(math.log10(step) + 1e-9)
    return learning_rate(rate, max(1, digits))


def share_tick(ratio: float, step: float) -> str:
    """As `tick`, of shares: in percent."""
    return f"{tick(100 * ratio, 100 * step)}%"


def probability(value: float) -> str:
    """A probability in five cells: 0.123, or <.001 for one that would round to nothing."""
    return f"{value:.3f}" if value >= 0.0005 else "<.001"


def dollars(value: float | None) -> str:
    """`2.5` → `$2.50`, `0.075` → `$0.075`: at least two decimals, more if the value has them."""
    value = finite(value)
    if value is None:
        return UNKNOWN
    whole, _, decimals = f"{value:,.6f}".rstrip("0").partition(".")
    return f"${whole}.{decimals:0<2}"


_NO_LETTER = 1e15  # _THOUSANDS end before it


def tick(value: float, step: float) -> str:
    """A label on an axis whose labels are `step` apart: no more decimals than they need to differ."""
    if abs(value) <= step / 2:  # both are 0 for steps that a float can't hold
        return "0"
    if (step < 1e-4 and abs(value) < 1) or abs(value) >= _NO_LETTER:
        return scientific(value, max(2, 1 + math.floor(math.log10(abs(value))) - math.floor(math.log10(step) + 1e-9)))
    unit, letter = next((one for one in _THOUSANDS if abs(value) >= one[0] * (1 - 1e-9)), (1, ""))
    text = f"{value / unit:.{max(0, -math.floor(math.log10(step / unit) + 1e-9))}f}"
    return text.rstrip("0").rstrip(".") + letter if letter and "." in text else text + letter


def progress_words(done: float, total: float | None, unit: str) -> str:
    """`37/120 sequences`, `41 MB of 93 MB`, or `37 sequences` if the total is not known.

    Empty for a single step, whose label says all, and for none of an unknown number: those would tell nothing.
    """
    if (unit == _STEPS and total == 1) or (unit in (_STEPS, "") and total is None and not done):
        return ""
    if unit == BYTES:
        return size(done) + (f" of {size(total)}" if total is not None else "")
    return f"{number(done)}{f'/{number(total)}' if total is not None else ''} {unit}".strip()


def left_words(eta: str, part: object, parts: object, first_step_in_s: object) -> str:
    """`40 s left`, `40 s left of part 1 of 2`, `part 1 of 3, about 9 min to the first step`; `eta` is in words."""
    place, places, first = (finite(value) for value in (part, parts, first_step_in_s))
    of = f"part {number(place)} of {number(places)}" if place and places and places > 1 else ""
    if first:
        return ", ".join(filter(None, (of, f"about {roughly(first)} to the first step")))
    left = f"{eta} left" if eta else ""
    return " of ".join(filter(None, (left, of)))


_SLOW = 0.05
"""Below this, a rate is told by a longer time. Few teachers are so slow: of others the unit stays the same."""


def rate_words(rate: float | None, unit: str) -> str:
    """`1.50 prompts/s`, `4.1 MB/s`; what is much slower than one a second, by the minute or the hour."""
    rate = finite(rate)
    if rate is None:
        return UNKNOWN
    if unit == BYTES:
        return f"{size(rate)}/s"
    if rate >= _SLOW or rate <= 0:
        return f"{significant(rate)} {unit}/s"
    if 60 * rate >= _SLOW:
        return f"{significant(60 * rate, 2)} {unit}/min"
    return f"{significant(3600 * rate, 2)} {unit}/h"


def duration(seconds: float | None) -> str:
    """`48s`, `3m 21s`, `1h 05m`, `2d 3h`."""
    seconds = finite(seconds)
    if seconds is None:
        return UNKNOWN
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole}s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes}m {rest:02d}s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h {minutes:02d}m" if hours < 48 else f"{hours // 24}d {hours % 24}h"


def roughly(seconds: float | None) -> str:
    """`5 s`, `40 s`, `4 min`, `1 h 10 min`, `3 days`: for a time that is not known to the second."""
    seconds = finite(seconds)
    if seconds is None:
        return UNKNOWN
    if seconds < 57.5:
        return f"{max(5, 5 * round(seconds / 5))} s"
    minutes = max(1, round(seconds / 60))
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(10 * round(minutes / 10) if minutes > 120 else minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    return f"{round(seconds / 86400)} days"


def ago(then: float | None, now: float) -> str:
    """`just now`, `4 min ago`, `3 h ago`, `6 days ago`."""
    if then is None:
        return UNKNOWN
    seconds = max(0.0, now - then)
    if seconds < 60:
        return "just now"
    if seconds < 3600:
        return f"{int(seconds // 60)} min ago"
    if seconds < 48 * 3600:
        return f"{int(seconds // 3600)} h ago"
    return f"{int(seconds // 86400)} days ago"


# -- cells of a terminal ---------------------------------------------------------------------------------
def width(text: str) -> int:
    """Terminal cells that a text takes: wide East Asian characters take two, combining marks none."""
    return len(text) if text.isascii() else sum(map(_char_width, text))


def _char_width(char: str) -> int:
    if unicodedata.category(char) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def head(text: str, cells: int) -> str:
    """The longest beginning that fits into the cells."""
    return next(_pieces(text, cells))


def crop(text: str, cells: int) -> str:
    """The text cut to fit into the cells, with an ellipsis if something is missing."""
    if width(text) <= cells:
        return text
    return head(text, cells - 1) + "…" if cells > 0 else ""


def crop_middle(text: str, cells: int) -> str:
    """The same for names that differ at their ends: as much of both ends as fits, the ellipsis between them."""
    if width(text) <= cells or cells < 3:
        return crop(text, cells)
    end = head(text[::-1], (cells - 1) // 2)[::-1]
    return f"{head(text, cells - 1 - width(end))}…{end}"


_BREAK = re.compile(r" (?!(?:s|ms|min|h|days|[kMGT]?B|%)(?!\w))|(?<!\d) ")  # any space but that of `5 min`


def wrap(text: str, cells: int) -> list[str]:
    """The text as lines that fit: broken at spaces, or inside a word that is longer than a line. Never empty.

    A number and its unit stay on one line.
    """
    cells = max(2, cells)
    lines: list[str] = []
    for paragraph in text.split("\n"):
        current = ""
        for word in _BREAK.split(paragraph):
            if current and width(current) + 1 + width(word) > cells:
                lines.append(current)
                current = word
            else:
                current = f"{current} {word}" if current else word
            *full, current = _pieces(current, cells)
            lines += full
        lines.append(current)
    return lines


def _pieces(word: str, cells: int) -> Iterator[str]:
    """The word cut into parts that fit. One pass: an answer in Chinese is one long word."""
    start = used = 0
    for place, char in enumerate(word) if width(word) > cells else ():
        used += width(char)
        if used > cells:
            yield word[start:place]
            start, used = place, width(char)
    yield word[start:]


def pad(text: str, cells: int, *, right: bool = False) -> str:
    """The text cut or padded with spaces to exactly `cells` cells; aligned to the right if `right`."""
    text = crop(text, cells)
    space = " " * (cells - width(text))
    return space + text if right else text + space


# -- text from outside -----------------------------------------------------------------------------------
def is_utf8(text: str) -> bool:
    """Whether the text can be encoded: bytes that are not UTF-8 are read as lone surrogates, which can't."""
    return text.encode(errors="ignore").decode() == text


def escaped(text: str) -> str:
    """The text with lone surrogates as escapes such as `\\udcff`, to quote it in a message."""
    return text.encode("utf-8", "backslashreplace").decode()


def rejection(code: str) -> str:
    """Why an answer can't be used, in words: `no logprobs`, `text differs from its tokens`."""
    return "text differs from its tokens" if code == "text_differs" else code.replace("_", " ")


def listed(names: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def printable(text: str) -> str:
    """Text from outside, safe to show: each character that could move the cursor or hide or reorder text becomes `·`.

    These are control characters, format characters such as bidi overrides, and lone surrogates. Without its first
    character an escape sequence is plain text. Tabs and unusual spaces become spaces; line ends stay, as `\\n`.
    """
    plain = text.replace("\r\n", "\n").expandtabs(4)
    return "".join(char if char == "\n" or char.isprintable() else _stand_in(char) for char in plain)


def _stand_in(char: str) -> str:
    return " " if unicodedata.category(char) == "Zs" else "·"


def capital(clause: str) -> str:
    """The clause as the beginning of a sentence."""
    return clause[:1].upper() + clause[1:]


def flat(text: str) -> str:
    """The text on one line, safe to show."""
    return printable(" ".join(text.split()))
