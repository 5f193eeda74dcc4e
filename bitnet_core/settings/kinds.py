"""What a setting is, and a short constructor for each kind. `registry.py` builds its table with them."""

from dataclasses import dataclass
from typing import Literal

Kind = Literal["int", "float", "bool", "text", "path"]


@dataclass(frozen=True)
class Setting:
    """One name of a `.env`. `default` is written as it would be there; empty means unset."""

    name: str
    kind: Kind
    default: str
    help: str
    low: float | None = None
    high: float | None = None
    unit: str = ""
    choices: tuple[str, ...] = ()
    secret: bool = False
    exported: bool = False
    """Passed to a stage as an environment variable, for the library that reads it there."""
    section: str = ""

    def allowed(self) -> str:
        """What a value may be, for error messages and docs."""
        if self.choices:
            return "one of " + ", ".join(self.choices)
        if self.kind == "bool":
            return "0 or 1"
        if self.kind in ("int", "float"):
            return self._allowed_numbers()
        return "a path" if self.kind == "path" else "text"

    def _allowed_numbers(self) -> str:
        noun = "a whole number" if self.kind == "int" else "a number"
        if self.low is not None and self.high is not None:
            form = ",.0f" if self.kind == "int" else ".15g"
            return f"{noun} from {self.low:{form}} to {self.high:{form}}"
        return f"{noun} of at least {self.low:.12g}" if self.low is not None else noun


def integer(
    name: str, default: str, about: str, low: float = 0, high: float | None = None, unit: str = ""
) -> Setting:
    """A whole number from `low` to `high`."""
    return Setting(name, "int", default, about, low, high, unit)


def number(name: str, default: str, about: str, low: float = 0, high: float | None = None, unit: str = "") -> Setting:
    """A number from `low` to `high`."""
    return Setting(name, "float", default, about, low, high, unit)


def switch(name: str, default: str, about: str) -> Setting:
    """0 or 1."""
    return Setting(name, "bool", default, about)


def bits(name: str, default: str, about: str) -> Setting:
    """The width of activations: 4 or 8 bits."""
    return Setting(name, "int", default, about, choices=("4", "8"), unit="bits")


def text(name: str, default: str, about: str, *choices: str) -> Setting:
    """Any text, or one of `choices` where there are any."""
    return Setting(name, "text", default, about, choices=choices)


def path(name: str, default: str, about: str) -> Setting:
    """A file or folder; a relative one is relative to the place it was written in."""
    return Setting(name, "path", default, about)


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
