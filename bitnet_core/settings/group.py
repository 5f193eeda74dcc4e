"""The machinery of typed groups: each field names the setting, or the settings, that fill it. `values.py` uses it."""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any, Self, dataclass_transform, get_args, get_type_hints

from bitnet_core.errors import UsageError
from bitnet_core.settings.kinds import Value
from bitnet_core.settings.references import names_in
from bitnet_core.settings.registry import REGISTRY
from bitnet_core.settings.resolved import Settings


def setting(name: str) -> Any:
    """A field with the value of the setting `name`."""
    return field(default=_default(name), metadata={"names": {name}, "value": partial(_value, name)})


def combined(names: Mapping[str, str], build: Callable[[dict[str, Any]], Any]) -> Any:
    """A field that `build` makes from the values of several settings, under the keys of `names`."""

    def built(value_of: Callable[[str], Value]) -> Any:
        return build({key: value_of(name) for key, name in names.items()})

    return field(
        default_factory=lambda: built(_default),
        metadata={"names": set(names.values()), "value": lambda settings: built(partial(_value, settings=settings))},
    )


def nested(group: type["Group"]) -> Any:
    """A field that holds another group."""
    return field(default_factory=group, metadata={"names": group.setting_names(), "value": group.of})


@dataclass_transform(frozen_default=True, kw_only_default=True)
@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Group:
    """Base class of the groups, which makes each a frozen dataclass whose fields are given by keyword.

    The metadata of a field: the `names` of its settings, and a function that gets its `value` from all settings.
    """

    def __init_subclass__(cls) -> None:
        # Comparison and text are written below once: generating them for each group delays the first screen.
        dataclass(frozen=True, kw_only=True, eq=False, repr=False)(cls)

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and vars(other) == vars(self)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in vars(self).items())})"

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """The group with the values of `settings`. UsageError names a required setting that is empty."""
        values = {item.name: item.metadata["value"](settings) for item in dataclasses.fields(cls)}
        for item in dataclasses.fields(cls):
            if values[item.name] is None and item.name not in cls._optional():
                (name,) = item.metadata["names"]
                raise UsageError(f"{name} is not set; give it a value in .env or on the command line.")
        return cls(**values)

    @classmethod
    @cache  # the app makes groups for hundreds of experiments
    def _optional(cls) -> frozenset[str]:
        """The fields that may be None."""
        return frozenset(name for name, hint in get_type_hints(cls).items() if type(None) in get_args(hint))

    @classmethod
    def setting_names(cls) -> frozenset[str]:
        """The settings that fill the group and the groups in it."""
        return frozenset[str]().union(*(item.metadata["names"] for item in dataclasses.fields(cls)))


def _default(name: str) -> Value:
    """The registry's default as a value; that of an empty setting if it is a path or refers to another setting."""
    found = REGISTRY[name]
    if not found.default or found.kind == "path" or names_in(found.default):
        return _empty(name)
    return found.parse(found.default, Path())


def _value(name: str, settings: Settings) -> Value:
    found = settings.values[name]
    return _empty(name) if found is None else found


def _empty(name: str) -> Value:
    return "" if REGISTRY[name].kind in ("text", "layers") else None
