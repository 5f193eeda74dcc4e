"""How large a template's values are, and how large the result of a call can be, told before the call is made.

What is not listed here works on small values only, so that no call can take much memory or time. Pure.
"""

import re
import string
from collections.abc import Callable, ItemsView, Iterable, KeysView, Mapping, ValuesView
from typing import Any

from jinja2.runtime import LoopContext
from jinja2.utils import Cycler, Joiner, Namespace

LONGEST_VALUE = 1 << 23
"""Characters of one value."""
ELEMENT = 32
"""What an element of a list counts, in characters."""
_SMALL = 1 << 12
"""Characters, and the value of a whole number, that any call may have."""
_DEEPEST = 100
_LARGEST_NUMBER_BITS = 1 << 12
_LOOP = LONGEST_VALUE >> 6
"""What a loop counts as an element: it may hand out values that are not counted in it."""
_MOST_OF_A_CHARACTER = 10
"""Characters of one character in the text of a list, such as `\\U0010ffff`."""
_NUMBER = 400
"""Characters of any number as text, and of an object's name."""
_MOST_DIGITS = 3
_FEW = 256
_MOST_COMPARED = 1 << 27
_SPACES = [char for char in map(chr, range(0x3001)) if char.isspace()]
"""Includes every character that ends a line."""
_DIRECTIVE = re.compile(r"%(?:\([^()]*\))?[#0 +-]*(\*|\d*)(?:\.(\*|\d*))?[hlL]?(.?)", re.DOTALL)
_WIDE_FIELD = re.compile(r"[{]|\d{4}")

Bound = Callable[..., int]


class TooMuch(Exception):
    """The template exceeds a limit; the message is a clause that says which."""


def too_long() -> TooMuch:
    return TooMuch(f"it makes a value of more than {LONGEST_VALUE:,} characters")


# -- values ----------------------------------------------------------------------------------------------


def size(value: Any) -> int:
    """The characters and elements in a value, those it holds twice counted twice.

    TooMuch for one that is too large or nested too deeply, which also ends the walk.
    """
    if isinstance(value, str):  # most are
        if len(value) > LONGEST_VALUE:
            raise too_long()
        return len(value)
    total, depth, level = 0, 0, [value]
    while level:
        depth += 1
        below: list[Any] = []
        for one in level:
            if isinstance(one, str):
                total += len(one)
            else:
                total += length(one)
                below += _inside(one) if total <= LONGEST_VALUE else ()
            if total > LONGEST_VALUE:
                raise too_long()
        if depth > _DEEPEST:
            raise TooMuch(f"it nests values more than {_DEEPEST} deep")
        level = below
    return total


def length(value: Any) -> int:
    """The size of a value without what is in its elements."""
    if isinstance(value, str | bytes):
        return len(value)
    if isinstance(value, int):
        return 1 + number_bits(value) // 3
    if isinstance(value, LoopContext):
        return _LOOP
    inside = _inside(value)
    return ELEMENT * len(inside) if inside else 1


def _inside(value: Any) -> Any:
    if isinstance(value, str):
        return ()
    if isinstance(value, dict):
        return [*value.keys(), *value.values()]
    if isinstance(value, list | tuple | set | frozenset | KeysView | ValuesView):
        return value
    if isinstance(value, ItemsView):
        return [part for item in value for part in item]
    if isinstance(value, Namespace):
        return list(value._Namespace__attrs.values())
    if isinstance(value, Cycler):
        return value.items
    return (value.sep,) if isinstance(value, Joiner) else ()


def number_bits(value: int) -> int:
    """TooMuch for a number that would take long to compute with."""
    if value.bit_length() > _LARGEST_NUMBER_BITS:
        raise TooMuch("it computes with numbers of thousands of digits")
    return value.bit_length()


def check_product(operator: str, left: Any, right: Any) -> None:
    """TooMuch if the result of `*` or `**` would be a number that is too large."""
    if isinstance(left, int) and isinstance(right, int) and operator in ("*", "**"):
        bits = left.bit_length() * right if operator == "**" else left.bit_length() + right.bit_length()
        if bits > _LARGEST_NUMBER_BITS:
            raise TooMuch("it computes with numbers of thousands of digits")


def text_size(value: Any) -> int:
    """The most characters that a value has as text."""
    return len(value) if isinstance(value, str) else _NUMBER + _MOST_OF_A_CHARACTER * size(value)


def small_only(name: str) -> Bound:
    """The bound of whatever has no other: what `name` is given must be small, and each of its whole numbers too."""

    def bound(*values: Any, **named: Any) -> int:
        given = (*values, *named.values())
        total: int = sum(abs(one) if isinstance(one, int) else size(one) for one in given)
        if total > _SMALL:
            raise TooMuch(f"it gives {name} more than {_SMALL:,} characters")
        return total

    return bound


# -- results ---------------------------------------------------------------------------------------------


def _text(value: Any, *_: Any, **__: Any) -> int:
    return text_size(value)


def _searched(text: Any, *values: Any, **_: Any) -> int:
    return 1 + size(text) // 16 + size(values) // 16


def _constant(*_: Any, **__: Any) -> int:
    return 1


def _looked_up(_: Any, key: Any = None, __: Any = None) -> int:
    return 1 + size(key)


def _elements(value: Any, *options: Any, **named: Any) -> int:
    """Elements that are walked, and the names of attributes, which are looked up in each of them."""
    total = (1 + ELEMENT) * len(value) if isinstance(value, str) else size(value)
    names = sum(len(one) for one in (*options, *named.values()) if isinstance(one, str))
    return total + names * (total // ELEMENT)


def _walked(value: Any, *options: Any, **named: Any) -> int:
    """Elements that are compared with one another."""
    return 4 * _elements(value, *options, **named)


def _stripped(text: Any, chars: str | None = None) -> int:
    if chars is not None and len(chars) > _FEW:  # each character of the text is looked for in them
        raise TooMuch(f"it strips more than {_FEW} kinds of characters")
    return text_size(text)


def _searched_back(text: str, *values: Any, **named: Any) -> int:
    """A search from the end compares all of what is searched for at each place."""
    sought = next((one for one in (*values, *named.values()) if isinstance(one, str)), "")
    if len(text) * len(sought) > _MOST_COMPARED:
        raise TooMuch("it searches for a long text from the end of a long one")
    return 1 + len(text) // 16


def _split_back(text: str, sep: str | None = None, maxsplit: int = -1) -> int:
    return _searched_back(text, sep) + _split(text, sep, maxsplit)


def _parted(text: str, _: Any) -> int:
    return len(text) + 3 * ELEMENT


def _parted_back(text: str, sep: str) -> int:
    return _searched_back(text, sep) + _parted(text, sep)


def _json(value: Any, *_: Any, **__: Any) -> int:
    return size(value)


def _replaced(text: Any, old: str, new: str, count: int | None = -1) -> int:
    text = str(text) if text_size(text) else ""
    times: int = text.count(str(old))
    times = times if count is None or count < 0 else min(times, count)
    return len(text) + times * text_size(new)


def _padded(text: Any, width: int = 80, *_: Any) -> int:
    return max(text_size(text), abs(width))


def _joined(separator: str, parts: Iterable[Any]) -> int:
    if isinstance(parts, str):
        return len(parts) * (1 + text_size(separator))
    values = list(parts)
    return sum(map(text_size, values)) + len(values) * text_size(separator)


def _joined_filter(parts: Iterable[Any], d: str = "", attribute: None = None) -> int:  # noqa: ARG001
    return _joined(d, parts)


def _split(text: str, sep: str | None = None, maxsplit: int = -1) -> int:
    pieces = text.count(sep) if sep else _spaces(text)
    return len(text) + ELEMENT * (1 + (pieces if maxsplit < 0 else min(pieces, maxsplit)))


def _lines(text: str, *_: Any, **__: Any) -> int:
    return _split(text)


def _spaces(text: str) -> int:
    return sum(map(text.count, _SPACES))


def _indented(text: Any, width: int | str = 4, *_: Any, **__: Any) -> int:
    by = abs(width) if isinstance(width, int) else len(width)
    total = text_size(text)
    return total + by * (2 + _spaces(str(text)))


def _escaped(text: Any) -> int:
    most = text_size(text)
    return most + 5 * sum(str(text).count(char) for char in "<>&'\"")


def _truncated(text: Any, size_: int = 255, killwords: bool = False, end: str = "...", *_: Any) -> int:  # noqa: ARG001
    return text_size(text) + text_size(end)


def _batched(value: Any, count: int, *_: Any) -> int:
    return 2 * _elements(value) + 2 * ELEMENT * abs(count)


def _summed(value: Any, *options: Any, **named: Any) -> int:
    plain = not options and not named and isinstance(value, list | tuple)
    return (
        len(value)
        if plain and all(isinstance(one, int | float) for one in value)
        else small_only("sum")(value, *options, **named)
    )


def percent_bound(text: str, values: Any) -> int:
    """The most characters of `text % values`."""
    numbers = copies = 0
    for found in _DIRECTIVE.finditer(text):
        width, precision, kind = found[1], found[2] or "", found[3]
        if kind == "(" or "*" in width + precision or max(len(width), len(precision)) > _MOST_DIGITS:
            raise TooMuch("it formats with a width that is not a small number")
        if kind != "%":
            numbers += int(width or 0) + int(precision or 0) + _NUMBER
            copies += _MOST_OF_A_CHARACTER if kind in "ra" else 1
    if isinstance(values, tuple):
        each = sum(map(text_size, values)) * (_MOST_OF_A_CHARACTER if copies > len(values) else 1)
        return len(text) + numbers + each
    most = sum(map(text_size, values.values())) if isinstance(values, dict) else 0
    return len(text) + numbers + copies * max(most, text_size(values))


def _percent_filter(text: Any, *values: Any, **named: Any) -> int:
    total = text_size(text)
    return total + percent_bound(str(text), named or values)


def _formatted(text: str, *values: Any, **named: Any) -> int:
    """The most characters of `text.format(…)`, without fields that look into a value and widths from elsewhere."""
    numbers = copies = 0
    for _, field, spec, conversion in string.Formatter().parse(text):
        if field is None:
            continue
        if "." in field or "[" in field or _WIDE_FIELD.search(spec or ""):
            raise TooMuch("it formats with more than plain fields and small widths")
        numbers += 2 * 10**_MOST_DIGITS + _NUMBER
        copies += _MOST_OF_A_CHARACTER if conversion else 1
        if numbers > LONGEST_VALUE:
            raise too_long()
    return len(text) + numbers + copies * max(map(text_size, [*values, *named.values()]), default=0)


def _formatted_map(text: str, values: Mapping[str, Any]) -> int:
    return _formatted(text, *values.values())


def _table(*rows: tuple[str, Bound]) -> dict[str, Bound]:
    return {name: bound for names, bound in rows for name in names.split()}


_STR = _table(
    ("capitalize casefold lower upper title swapcase removeprefix removesuffix", _text),
    ("partition", _parted),
    ("strip lstrip rstrip", _stripped),
    ("rpartition", _parted_back),
    ("rfind rindex", _searched_back),
    ("startswith endswith find index count", _searched),
    ("isalnum isalpha isascii isdecimal isdigit isidentifier islower isnumeric isprintable", _searched),
    ("isspace istitle isupper", _searched),
    ("center ljust rjust zfill", _padded),
    ("split", _split),
    ("rsplit", _split_back),
    ("splitlines", _lines),
    ("join", _joined),
    ("replace", _replaced),
    ("format", _formatted),
    ("format_map", _formatted_map),
)
_LIST = _table(("index count", _searched), ("copy", _elements))
_DICT = _table(("get", _looked_up), ("copy", _elements), ("keys values items", _constant))
_METHODS: Mapping[type, Mapping[str, Bound]] = {str: _STR, list: _LIST, tuple: _LIST, dict: _DICT}
"""The bound of each method that may work on large values."""
_FILTERS = _table(
    ("upper lower capitalize string safe", _text),
    ("trim", _stripped),
    ("e escape forceescape", _escaped),
    ("abs attr count d default first float int last length", _constant),
    ("list map select reject selectattr rejectattr reverse items", _elements),
    ("tojson", _json),
    ("sort dictsort unique groupby min max", _walked),
    ("center", _padded),
    ("truncate", _truncated),
    ("indent", _indented),
    ("join", _joined_filter),
    ("replace", _replaced),
    ("batch slice", _batched),
    ("sum", _summed),
    ("format", _percent_filter),
)
"""The bound of each filter that may work on large values."""
CHEAP_TESTS = frozenset(
    (
        *(
            "boolean",
            "callable",
            "defined",
            "divisibleby",
            "escaped",
            "even",
            "false",
            "float",
            "integer",
            "iterable",
        ),
        *("mapping", "none", "number", "odd", "sameas", "sequence", "string", "true", "undefined"),
    )
)
"""Tests whose time does not depend on the value's size."""


def filter_bound(name: str) -> Bound:
    """The bound of a filter, which takes the value and the filter's options."""
    return _FILTERS.get(name) or small_only(name)


def method_bound(owner: Any, name: str) -> Bound:
    """The bound of a value's method, which takes the value and the method's arguments."""
    methods = next((methods for kind, methods in _METHODS.items() if isinstance(owner, kind)), {})
    return methods.get(name) or small_only(name)
