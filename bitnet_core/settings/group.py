"""The machinery of typed groups: each field names the setting, or the settings, that fill it. `values.py` uses it."""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, get_args, get_type_hints

from bitnet_core.errors import UsageError
from bitnet_core.settings.parse import Value, parse
from bitnet_core.settings.references import names_in
from bitnet_core.settings.registry import REGISTRY
from bitnet_core.settings.resolved import Settings

_NONE = type(None)


def setting(name: str) -> Any:
    """A field with the value of the setting `name`."""
    return field(default=default(name), metadata={"settings": {"": name}})


def combined(names: Mapping[str, str], build: Callable[[dict[str, Any]], Any]) -> Any:
    """A field that `build` makes from the values of several settings, under the keys of `names`."""
    return field(
        default_factory=lambda: build({key: default(name) for key, name in names.items()}),
        metadata={"settings": dict(names), "build": build},
    )


def nested(group: type["Group"]) -> Any:
    """A field that holds another group."""
    return field(default_factory=group, metadata={"group": group})


def default(name: str) -> Value:
    """The registry's default as a value; that of an empty setting if it is a path or refers to another setting."""
    found = REGISTRY[name]
    if not found.default or found.kind == "path" or names_in(found.default):
        return _empty(name)
    return parse(found, found.default, Path())


@dataclass(frozen=True, kw_only=True)
class Group:
    """Base class of the groups."""

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """The group with the values of `settings`. UsageError names a required setting that is empty."""
        hints = get_type_hints(cls)
        return cls(**{item.name: _filled(item, hints[item.name], settings) for item in dataclasses.fields(cls)})

    @classmethod
    def setting_names(cls) -> frozenset[str]:
        """The settings that fill the group and the groups in it."""
        found: set[str] = set()
        for item in dataclasses.fields(cls):
            inner: type[Group] | None = item.metadata.get("group")
            found |= inner.setting_names() if inner else set(item.metadata["settings"].values())
        return frozenset(found)


def _filled(item: "dataclasses.Field[Any]", hint: Any, settings: Settings) -> Any:
    group: type[Group] | None = item.metadata.get("group")
    if group is not None:
        return group.of(settings)
    values = {key: _value(name, settings) for key, name in item.metadata["settings"].items()}
    if "build" in item.metadata:
        return item.metadata["build"](values)
    if values[""] is None and _NONE not in get_args(hint):
        raise UsageError(
            f"{item.metadata['settings']['']} is not set; give it a value in .env or on the command line."
        )
    return values[""]


def _value(name: str, settings: Settings) -> Value:
    found = settings.value(name)
    return _empty(name) if found is None else found


def _empty(name: str) -> Value:
    return "" if REGISTRY[name].kind == "text" else None
