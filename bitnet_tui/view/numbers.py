"""Numbers as people read them: few digits, units that fit, one dash for what is not known."""

import math

UNKNOWN = "–"
_THOUSANDS = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def finite(value: object) -> float | None:
    """The value as a float when it is a finite number; None for everything else (text, bool, NaN, huge)."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def significant(value: float | None, digits: int = 3) -> str:
    """`0.8431` → `0.843`, `12.34` → `12.3`, `0.0000841` → `8.41e-5`; trailing zeros stay, so columns are quiet."""
    if value is None or not math.isfinite(value):
        return UNKNOWN
    if value == 0:
        return "0"
    exponent = math.floor(math.log10(abs(value)))
    if exponent < -3 or exponent > 5:
        return scientific(value, digits)
    return f"{value:.{max(0, digits - 1 - exponent)}f}"


def scientific(value: float | None, digits: int = 3) -> str:
    """`0.00110` → `1.10e-3`."""
    if value is None or not math.isfinite(value):
        return UNKNOWN
    mantissa, _, exponent = f"{value:.{digits - 1}e}".partition("e")
    return f"{mantissa}e{int(exponent)}"


def count(value: float | None) -> str:
    """`950` → `950`, `87412` → `87.4k`, `1500000` → `1.5M`."""
    if value is None or not math.isfinite(value):
        return UNKNOWN
    for size, letter in _THOUSANDS:
        if abs(value) >= size * 0.9995:
            scaled = value / size
            text = f"{scaled:.0f}" if abs(scaled) >= 99.95 else f"{scaled:.1f}"
            return text.removesuffix(".0") + letter
    return f"{value:.0f}" if abs(value) >= 99.95 or value == int(value) else f"{value:.1f}"


def size(value: float | None) -> str:
    """Bytes with decimal prefixes: `93 MB`, `1.3 GB`."""
    if value is None or not math.isfinite(value):
        return UNKNOWN
    text = count(value)
    return f"{text[:-1]} {text[-1]}B" if text[-1].isalpha() else f"{text} B"


def percent(part: float | None, whole: float | None) -> str:
    """`58%`; never 100% before the whole is there."""
    if part is None or not whole or whole < 0:
        return UNKNOWN
    return f"{math.floor(max(0.0, min(1.0, part / whole)) * 100 + 1e-9)}%"


def duration(seconds: float | None) -> str:
    """`48s`, `3m 21s`, `1h 05m`, `2d 3h`."""
    if seconds is None or not math.isfinite(seconds):
        return UNKNOWN
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole}s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes}m {rest:02d}s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h {minutes:02d}m" if hours < 48 else f"{hours // 24}d {hours % 24}h"


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
