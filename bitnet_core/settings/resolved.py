"""The result of resolving: immutable values with their origins, and the problems that were found."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

from bitnet_core.errors import UsageError
from bitnet_core.settings.kinds import Value
from bitnet_core.settings.registry import REGISTRY, SECRET_NAMES


class Problem(NamedTuple):
    """An `error` stops the command; a `warning` is shown and the command goes on."""

    severity: Literal["error", "warning"]
    message: str
    to_fix: bool = True
    """Whether `bitnet config --check` fails because of it."""


@dataclass(frozen=True)
class Settings:
    """The value of every setting by name, without secrets; None if it is empty.

    Code reads the values as fields of the groups in `values.py`.
    """

    values: Mapping[str, Value]
    origins: Mapping[str, str] = field(default_factory=dict)
    """Where each value comes from, in words; those that are not here are defaults."""

    @classmethod
    def from_record(cls, record: Mapping[str, Any], origins: Mapping[str, str]) -> "Settings":
        """The settings of a run record. Names unknown to this version are ignored; missing ones are None."""
        known = {name: record.get(name) for name in REGISTRY if name not in SECRET_NAMES}
        paths = {n: Path(v) for n, v in known.items() if REGISTRY[n].kind == "path" and v is not None}
        return cls(known | paths, origins)

    def to_record(self) -> dict[str, Any]:
        """The values as JSON types."""
        return dict(self._record)

    @cached_property
    def _record(self) -> Mapping[str, Any]:
        return {name: str(v) if isinstance(v, Path) else v for name, v in self.values.items()}

    def origin(self, name: str) -> str:
        """Where the value comes from, such as `environment` or `.env line 3`."""
        return self.origins.get(name, "default")


@dataclass(frozen=True)
class Resolution:
    """What `resolve` found. `secrets` are those in the environment or a `.env`, without the keyring and the vault.

    `env_files` are the `.env` files that were read, strongest first.
    """

    settings: Settings
    secrets: Mapping[str, str] = field(repr=False)
    secret_origins: Mapping[str, str]
    problems: tuple[Problem, ...]
    env_files: tuple[Path, ...] = ()
    secret_values: frozenset[str] = field(default=frozenset(), repr=False)
    """Every secret in any layer, including those that a stronger layer overrides."""

    @property
    def errors(self) -> str:
        """One line for every error; empty if there is none."""
        return "\n".join(problem.message for problem in self.problems if problem.severity == "error")

    def checked(self) -> Settings:
        """The settings, or a `UsageError` with one line for every error."""
        if self.errors:
            raise UsageError(self.errors)
        return self.settings
