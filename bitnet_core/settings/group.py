"""How a typed group of settings is filled: each field names the setting, or the settings, that it is made from."""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, get_args, get_type_hints

from bitnet_core.errors import UsageError
from bitnet_core.settings.parse import Value, parse
from bitnet_core.settings.registry import REGISTRY
from bitnet_core.settings.resolved import Settings

_NONE = type(None)


def setting(name: str) -> Any:
    """A field that the setting `name` fills; its default is the registry's, None for a path or a reference."""
    return field(default=default(name), metadata={"settings": {"": name}})


def several(names: Mapping[str, str], build: Callable[[dict[str, Any]], Any]) -> Any:
    """A field that `build` makes from the values of several settings, by the keys of `names`."""
    return field(
        default_factory=lambda: build({key: default(name) for key, name in names.items()}),
        metadata={"settings": dict(names), "build": build},
    )


def nested(group: type["Group"]) -> Any:
    """A field that holds another group."""
    return field(default_factory=group, metadata={"group": group})


def default(name: str) -> Value:
    """The registry's default as a value; None where it is empty, a path, or refers to another setting."""
    found = REGISTRY[name]
    if found.kind == "path" or "${" in found.default:
        return None
    return parse(found, found.default, Path()) if found.default else ("" if found.kind == "text" else None)


@dataclass(frozen=True, kw_only=True)
class Group:
    """The base of every group."""

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """The group with the values of `settings`. UsageError names a required setting that is empty."""
        hints = get_type_hints(cls)
        return cls(**{one.name: _filled(one, hints[one.name], settings) for one in dataclasses.fields(cls)})

    @classmethod
    def setting_names(cls) -> frozenset[str]:
        """The settings that fill the group and the groups in it."""
        found: set[str] = set()
        for one in dataclasses.fields(cls):
            inner: type[Group] | None = one.metadata.get("group")
            found |= inner.setting_names() if inner else set(one.metadata["settings"].values())
        return frozenset(found)


def _filled(one: "dataclasses.Field[Any]", hint: Any, settings: Settings) -> Any:
    group: type[Group] | None = one.metadata.get("group")
    if group is not None:
        return group.of(settings)
    values = {key: _value(name, settings) for key, name in one.metadata["settings"].items()}
    if "build" in one.metadata:
        return one.metadata["build"](values)
    if values[""] is None and hint is not _NONE and _NONE not in get_args(hint):
        raise UsageError(
            f"{one.metadata['settings']['']} is not set; give it a value in .env or on the command line."
        )
    return values[""]


def _value(name: str, settings: Settings) -> Value:
    found = settings.value(name)
    return "" if found is None and REGISTRY[name].kind == "text" else found
