"""What a model's tokens cost, read from a dated file that the user may replace. Standard library only."""

import datetime as dt
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from bitnet_core.errors import BitnetError, explained
from bitnet_core.files import asset, require_regular
from bitnet_core.files.toml_file import read_toml
from bitnet_core.network.hosts import is_local
from bitnet_core.teachers.profiles import Provider
from bitnet_core.text import finite

_MOST_BYTES = 1 << 20


@dataclass(frozen=True)
class Price:
    """US dollars per million tokens."""

    input: float
    output: float
    as_of: str
    source: str

    def usd(self, prompt_tokens: int, completion_tokens: int) -> float:
        return (prompt_tokens * self.input + completion_tokens * self.output) / 1e6


FREE = Price(0.0, 0.0, "", "a model on your own machine")


def price_of(provider: Provider, model: str, file: Path | None = None, *, address: str | None = None) -> Price | None:
    """The price of a model; None if the file does not have it. BitnetError for a file that can't be used.

    `address` is where the model is served, None for this machine. An own server without a price is free, unless its
    address is on the internet, where it may cost something.
    """
    path = file or asset("prices.toml")
    table = _read(path).get(provider.name, {})
    if not isinstance(table, dict):
        raise BitnetError(
            f'{path}: [{provider.name}] must hold tables of models, such as [{provider.name}."{model}"].'
        )
    matching = [name for name in table if model == name or (name.endswith("*") and model.startswith(name[:-1]))]
    if not matching:
        return FREE if is_own(provider, address) else None
    name = max(matching, key=lambda one: (one == model, len(one)))
    return _price(path, provider.name, name, table[name])


def is_own(provider: Provider, address: str | None) -> bool:
    """Whether a teacher is the user's own: here, or at an address that is not on the internet."""
    return bool(provider.local or (provider.name == "custom" and address)) and _is_local(address)


def lowest_price(provider: Provider) -> tuple[str, Price] | None:
    """The provider's cheapest model, by its input tokens, and its price by the packaged file, if that has one."""
    path = asset("prices.toml")
    table = _read(path).get(provider.name, {})
    named = {name: row for name, row in table.items() if not name.endswith("*")} if isinstance(table, dict) else {}
    priced = [(name, _price(path, provider.name, name, row)) for name, row in named.items()]
    return min(priced, key=lambda one: (one[1].input, one[0]), default=None)


def _is_local(address: str | None) -> bool:
    """Whether a model is served on this machine or on its own network."""
    if not address:
        return True
    try:
        host = urlsplit(address).hostname
    except ValueError:
        return False
    return bool(host) and is_local(str(host))


def _read(path: Path) -> dict[str, Any]:
    try:
        require_regular(path)
        return read_toml(path, _MOST_BYTES)
    except OSError as error:
        why = explained(error, "correct KD_PRICES_FILE")
        raise BitnetError(f"The price file {path} can't be read {why}.") from error
    except ValueError as error:
        raise BitnetError(f"The price file {path} is not valid TOML ({error}); correct it.") from error


def _price(path: Path, provider: str, name: str, row: Any) -> Price:
    fields = row if isinstance(row, dict) else {}

    def number(field: str) -> float:
        value = finite(fields.get(field))
        if value is None or value < 0:
            raise BitnetError(f'{path}, [{provider}."{name}"]: {field} must be US dollars per million tokens.')
        return value

    as_of = fields.get("as_of", "")
    shown = as_of.isoformat() if isinstance(as_of, dt.date) else as_of
    texts = (one if isinstance(one, str) else "" for one in (shown, fields.get("source")))
    return Price(number("input"), number("output"), *texts)
