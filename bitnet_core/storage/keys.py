"""The secrets of a target, and where it writes one back that the service has replaced."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from bitnet_core.errors import UsageError


def _forget(name: str, value: str) -> None:
    """Keep nothing: for targets whose keys never change."""


@dataclass(frozen=True)
class Keys:
    """What was found of a target's secrets, by setting. `keep` stores a rotated refresh token where it came from."""

    values: Mapping[str, str] = field(default_factory=dict, repr=False)
    keep: Callable[[str, str], object] = _forget

    def get(self, name: str) -> str:
        """The value; empty if it is not set."""
        return self.values.get(name, "")

    def need(self, name: str) -> str:
        """The value. UsageError if it is not set."""
        if not self.get(name):
            raise UsageError(f"{name} is not set; `bitnet keys set {name}` keeps it in the OS keyring.")
        return self.values[name]
