"""What a setting is, how its text becomes a value, and a short constructor for each kind of setting.

`registry.py` builds its table with the constructors.
"""

import os
import re
from decimal import Decimal
from math import inf, isfinite
from pathlib import Path
from typing import Literal, NamedTuple
from urllib.parse import urlsplit

from bitnet_core.files.inputs import is_descriptor
from bitnet_core.files.models import may_name_model
from bitnet_core.files.user_folders import NoHome, expanded
from bitnet_core.settings.layers import layer_numbers
from bitnet_core.text import is_utf8

Kind = Literal["int", "float", "bool", "text", "path", "layers"]
Value = int | float | bool | str | Path | None
_GROUPED = r"[-+]?\d{1,3}(_\d{3})+(\.\d*)?"
"""A number with its thousands set apart."""
_LONG_NUMBER = re.compile(r"[1-9]\d{4,14}")
_LEAST_PLAIN, _MOST_PLAIN = -2, 14
"""Exponents of ten of the numbers that are written without one: no usual learning rate is."""
_LONGEST_PATH = 4095
_WINDOWS_PATH = re.compile(r"([A-Za-z]):[\\/\s]|\\\\")
r"""Here it would be a name in the folder of the experiment. In double quotes, `C:\new` has a line end."""
_NO_LIMIT = 1 << 31
"""An upper bound this large limits nobody in practice, so only a number above it is told of it."""
_TRUE, _FALSE = ("1", "true", "yes", "on"), ("0", "false", "no", "off")


class Setting(NamedTuple):
    """One name of a `.env`. `default` is the text as it would be written there; empty means unset."""

    name: str
    kind: Kind
    default: str
    help: str
    low: float = -inf
    high: float = inf
    unit: str = ""
    choices: tuple[str, ...] = ()
    secret: bool = False
    exported: bool = False
    """Passed to a stage as an environment variable, for the library that reads it there."""
    section: str = ""
    multiline: bool = False
    """A text that may have several lines."""
    names_model: bool = False
    """A folder, a file, or a name on the hub."""
    read_at_once: bool = False
    """A file that is read by the command alone, so it may be one that only this process has open."""

    def allowed(self) -> str:
        """What a value may be, for error messages and docs."""
        if self.choices:
            return "one of " + ", ".join(self.choices)
        if self.kind in ("int", "float"):
            noun = "a whole number" if self.kind == "int" else "a number"
            low, high = (f"{one:,.0f}" if self.kind == "int" else as_written(one) for one in (self.low, self.high))
            return f"{noun} of at least {low}" if self.high >= _NO_LIMIT else f"{noun} from {low} to {high}"
        if self.kind == "layers":
            return "a number, or numbers in rising order such as 0,1,2"
        return {"bool": "0 or 1", "path": "a path"}.get(self.kind, "text")

    def _path(self, text: str, base: Path) -> Path:
        path = as_path(text, base)
        _refuse_windows_path(text)
        if is_descriptor(path) and not self.read_at_once:
            raise ValueError(
                "only this command has it open, as with <(…), and a run is a process of its own; write it to a file"
            )
        return path

    def parse(self, text: str, base: Path) -> Value:
        """The value of a text that is not empty. A relative path is relative to `base`.

        ValueError with a clause that says what is allowed.
        """
        not_allowed = ValueError(f"it must be {self.allowed()}")
        if "\0" in text:
            raise ValueError("it has a NUL character, which neither a path nor an environment variable can hold")
        if self.kind == "path":
            return self._path(text, base)
        if self.kind == "bool":
            if text.lower() in _TRUE + _FALSE:
                return text.lower() in _TRUE
            if text in self.choices:
                return text
            raise not_allowed
        if self.choices and text not in self.choices:
            raise not_allowed
        if self.kind == "text":
            if not self.multiline and ("\n" in text or "\r" in text):
                raise ValueError(
                    "it has several lines; close its quotes on its line, and write a backslash in them as two"
                )
            _check_text(text)
            if self.names_model:
                _refuse_windows_path(text)
                if not may_name_model(text):
                    raise ValueError("it must be a folder, a file or a name on the hub")
            return text
        try:
            if self.kind == "layers":
                layer_numbers(text)
                return text
            number = int(text.replace("_", "")) if self.kind == "int" else float(text)
        except ValueError:
            raise not_allowed from None
        if not -inf < number < inf:  # "inf" would be a limit that limits nothing
            raise ValueError("it must be a finite number")
        if not number and re.search("[1-9]", text.lower().partition("e")[0]):
            raise ValueError("it is too small to be told from 0")
        if number > self.high >= _NO_LIMIT:
            raise ValueError(f"it must be at most {self.high:,.0f}")
        misplaced = "_" in text and not re.fullmatch(_GROUPED, text)  # 1_50 may be meant to be 1.50
        if misplaced or not self.low <= number <= self.high:
            raise not_allowed
        return number


def as_written(value: object) -> str:
    """The value as people type it into a `.env`: `5e-5`, `0.01`, `60000`; empty for one that is not set."""
    if value is None:
        return ""
    if isinstance(value, float):
        return _shortest(value)
    return str(int(value) if isinstance(value, bool) else value)


def _shortest(value: float) -> str:
    """`0.0006` → `6e-4`, `0.01` → `0.01`, `2.0` → `2`: no digit more than the number needs."""
    if not isfinite(value) or value == 0:
        return f"{value:g}"
    sign, digits, exponent = Decimal(repr(value)).normalize().as_tuple()
    if not isinstance(exponent, int):
        raise AssertionError("a finite number has an exponent")
    first = exponent + len(digits) - 1
    if _LEAST_PLAIN <= first <= _MOST_PLAIN:
        return f"{Decimal(repr(value)).normalize():f}"
    rest = "".join(map(str, digits[1:]))
    return f"{'-' * sign}{digits[0]}{'.' * bool(rest)}{rest}e{first}"


def with_thousands(text: str) -> str:
    """A value's text with its thousands set apart, for reading: `60000` → `60,000`. Other texts stay as they are."""
    return f"{int(text):,}" if _LONG_NUMBER.fullmatch(text) else text


def as_path(text: str, base: Path) -> Path:
    """An absolute path without `..`; `~` is the home folder. ValueError if there is none, or the path is too long."""
    try:
        path = os.path.normpath(base / expanded(text))
    except NoHome:
        raise ValueError("its home folder is unknown here; set HOME or write the path out") from None
    if len(os.fsencode(path)) > _LONGEST_PATH:
        raise ValueError(f"it is longer than a path may be ({_LONGEST_PATH:,} bytes)")
    return Path(path)


def _refuse_windows_path(text: str) -> None:
    if found := _WINDOWS_PATH.match(text):
        there = f", in WSL /mnt/{found[1].lower()}/…" if found[1] else ""
        raise ValueError(f"it is a Windows path; write the path that it has here{there}")


def _check_text(text: str) -> None:
    """Addresses are written into run records, so they must hold no key: neither before an @ nor in a query."""
    if not is_utf8(text):
        raise ValueError("it must be UTF-8")
    if "://" not in text:
        return
    # An @ in a path is refused as well: a password with a slash in it looks like one.
    if "@" in text:
        raise ValueError("an address is written into run records, so it must not hold a password")
    try:
        _ = urlsplit(text).port
    except ValueError:
        raise ValueError("it must be an address such as https://host/v1") from None
    if "?" in text:
        raise ValueError("an address is written into run records, so it must have no query, which may hold a key")


# -- constructors ----------------------------------------------------------------------------------------


def integer(name: str, default: str, about: str, low: float = 0, high: float = inf, unit: str = "") -> Setting:
    """A whole number from `low` to `high`."""
    return Setting(name, "int", default, about, low, high, unit)


def number(name: str, default: str, about: str, low: float = 0, high: float = inf, unit: str = "") -> Setting:
    """A number from `low` to `high`."""
    return Setting(name, "float", default, about, low, high, unit)


def switch(name: str, default: str, about: str) -> Setting:
    """0 or 1."""
    return Setting(name, "bool", default, about)


def automatic(name: str, about: str) -> Setting:
    """0 or 1, or by default `auto`, whose value is that text."""
    return Setting(name, "bool", "auto", about, choices=("auto", "0", "1"))


def bits(name: str, default: str, about: str) -> Setting:
    """The width of activations: 4 or 8 bits."""
    return Setting(name, "int", default, about, choices=("4", "8"), unit="bits")


def text(name: str, default: str, about: str, *choices: str, multiline: bool = False) -> Setting:
    """Any text, or one of `choices` if there are any."""
    return Setting(name, "text", default, about, choices=choices, multiline=multiline)


def model(name: str, default: str, about: str) -> Setting:
    """A model or its tokenizer: a folder, a file, or a name on the hub."""
    return Setting(name, "text", default, about, names_model=True)


def layers(name: str, about: str) -> Setting:
    """Layers of a model: how many, or which. The value is the text."""
    return Setting(name, "layers", "", about)


def path(name: str, default: str, about: str, *, read_at_once: bool = False) -> Setting:
    """A file or folder; a relative one starts in the folder of its `.env`, or the working folder."""
    return Setting(name, "path", default, about, read_at_once=read_at_once)


def secret(name: str, about: str) -> Setting:
    """A key, token or password. It never gets into `Settings` or a run record."""
    return Setting(name, "text", "", about, secret=True)


def exported(name: str, default: str, about: str) -> Setting:
    """A variable that a library reads from a stage's environment."""
    return Setting(name, "text", default, about, exported=True)


def provider(label: str, prefix: str) -> tuple[Setting, ...]:
    """Model, key and address of one provider."""
    return (
        text(f"{prefix}_MODEL", "", f"Model to use at {label}."),
        secret(f"{prefix}_API_KEY", f"API key for {label}."),
        text(f"{prefix}_BASE_URL", "", f"Address of {label}'s API; empty = the usual one."),
    )
