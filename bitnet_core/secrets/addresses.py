"""Addresses that came with an experiment from a storage target: no key goes there until the user allows it.

Whoever can write to the target chose them. They are kept in the user's own state folder, by scheme, host and port: so
no experiment can take itself off the list, and a renamed, moved or duplicated one is still known. Knows no network.
"""

import contextlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from bitnet_core import files
from bitnet_core.errors import BitnetError, UsageError, explained
from bitnet_core.files.regular import read_bounded
from bitnet_core.files.user_folders import NoHome, state_folder
from bitnet_core.files.writable import writing
from bitnet_core.network.hosts import is_loopback
from bitnet_core.settings.registry import REGISTRY
from bitnet_core.settings.resolve import from_values
from bitnet_core.settings.resolved import Settings
from bitnet_core.settings.values import TeacherOptions
from bitnet_core.text import flat

_NAME = "addresses.json"
_MOST_BYTES = 1 << 22
_SHOWN = 300
"""More than the longest origin, so that the command which allows it has all of it."""
_PLAIN_HOST = re.compile(r"[a-z0-9_.-]{1,253}(:\d{1,5})?|\[[0-9a-f:.]{1,45}\](:\d{1,5})?", re.IGNORECASE)
_ORIGIN = re.compile(rf"https?://(?:{_PLAIN_HOST.pattern})", re.IGNORECASE)
_USUAL_PORTS = {"http": 80, "https": 443}


class NotAllowed(BitnetError):
    """The key `name` would go to `origin`, which came with an experiment and is not allowed yet. `why` says so."""

    def __init__(self, name: str, setting: str, place: str, origin: str, source: str) -> None:
        self.name, self.origin = name, origin
        shown = flat(origin)[:_SHOWN]
        self.why = f"{name} would go to {shown} ({setting}, {place}), an address that came with {flat(source)}"
        can_allow = f"allow it with `bitnet keys allow {name} {shown}`, or " if _ORIGIN.fullmatch(origin) else ""
        super().__init__(f"{self.why}; {can_allow}change {setting}.")


def origin_of(address: str) -> str:
    """Scheme, host and port of an address. One that programs may read in different ways is its own origin."""
    address = address.strip()
    try:
        parts = urlsplit(address)
        port = parts.port or _USUAL_PORTS.get(parts.scheme)
    except ValueError:
        return address
    if not _PLAIN_HOST.fullmatch(parts.netloc) or port is None:
        return address
    host = f"[{parts.hostname}]" if ":" in str(parts.hostname) else parts.hostname
    return f"{parts.scheme}://{host}" + ("" if port == _USUAL_PORTS.get(parts.scheme) else f":{port}")


class Address(NamedTuple):
    """A server: its scheme, host and port, the experiment it came with, and the keys that may go there."""

    origin: str
    source: str
    """Empty for one that came with none."""
    allowed: tuple[str, ...]


def addresses() -> tuple[Address, ...]:
    """Every server that came with an experiment or was allowed a key, by its origin."""
    known = _read()
    return tuple(
        Address(origin, known["arrived"].get(origin, ""), tuple(known["allowed"].get(origin, ())))
        for origin in sorted(known["arrived"].keys() | known["allowed"].keys())
    )


def note_arrived(values: Mapping[str, str], source: str, usual: Mapping[str, str]) -> None:
    """Keep in mind where settings that came with an experiment would send keys; `source` names it.

    `usual` has the usual address of each provider, by its name: its own key may go there, and no other.
    BitnetError if that can't be kept.
    """
    usual = {provider: origin_of(address) for provider, address in usual.items()}
    named = {name: values[name] for name in ("PROVIDER", "TEACHER_PROVIDER") if name in values}
    chosen = TeacherOptions.of(from_values(named)).chosen
    origins = {
        origin
        for name, text in values.items()
        if name.endswith("_BASE_URL") and (origin := origin_of(text)) != usual.get(_provider_of(name))
    }
    teachers = {chosen: usual[chosen]} if chosen in usual else {}
    origins |= set(teachers.values())
    if not (arrived := {origin: source for origin in origins if not _is_loopback(origin)}):
        return
    with _changing() as content:
        content["arrived"] = {**arrived, **content["arrived"]}
        content["teachers"] |= {name: origin for name, origin in teachers.items() if origin in arrived}
        for provider, origin in usual.items():
            if origin in arrived:
                _add(content, key_of(provider), origin)


def allow(name: str, address: str) -> str:
    """Let the key `name` go to the address, and return its scheme, host and port. UsageError if it is none."""
    origin = _origin_of_server(address)
    with _changing() as content:
        _add(content, name, origin)
    return origin


def disallow(name: str, address: str) -> str:
    """Take back what `allow` did, and return the address's origin. UsageError if it was not allowed."""
    origin = _origin_of_server(address)
    with _changing() as content:
        allowed = content["allowed"].get(origin, [])
        if name not in allowed:
            raise UsageError(
                f"{name} was not allowed to go to {flat(origin)[:_SHOWN]}; `bitnet keys addresses` lists what is."
            )
        content["allowed"][origin] = [one for one in allowed if one != name]
        if not content["allowed"][origin]:
            del content["allowed"][origin]
    return origin


def require_allowed(names: Iterable[str], settings: Settings) -> None:
    """NotAllowed for the first key that would go to an address that came with an experiment."""
    options, known = TeacherOptions.of(settings), None
    own = options.chosen.upper()
    for name in names:
        of_teacher = name in ("TEACHER_API_KEY", key_of(own))
        setting = f"{own if of_teacher else name.removesuffix('_API_KEY')}_BASE_URL"
        if of_teacher and options.base_url:
            setting = "TEACHER_BASE_URL"
        if not (address := settings.values.get(setting) if setting in REGISTRY else None) and not of_teacher:
            continue
        known = _read() if known is None else known
        origin = origin_of(str(address)) if address else known["teachers"].get(options.chosen)
        if origin in known["arrived"] and name not in known["allowed"].get(origin, []):
            if not address:
                setting = "PROVIDER" if settings.origin("TEACHER_PROVIDER") == "default" else "TEACHER_PROVIDER"
            raise NotAllowed(name, setting, settings.origin(setting), origin, known["arrived"][origin])


def key_of(provider: str) -> str:
    """The name of a provider's own key."""
    return f"{provider.upper()}_API_KEY"


def _provider_of(setting: str) -> str:
    return setting.removesuffix("_BASE_URL").lower()


def _origin_of_server(address: str) -> str:
    origin = origin_of(address)
    if not _ORIGIN.fullmatch(origin):
        raise UsageError(f"{flat(address)[:_SHOWN]} is not a server's address; give one such as https://host:8000.")
    return origin


def _is_loopback(origin: str) -> bool:
    try:
        host = urlsplit(origin).hostname or "" if _ORIGIN.fullmatch(origin) else ""
    except ValueError:
        return False
    return is_loopback(host)


# -- the file --------------------------------------------------------------------------------------------


def _read() -> dict[str, Any]:
    try:
        return _content(state_folder() / _NAME)
    except NoHome:  # then none can have been kept
        return _nothing()


def _nothing() -> dict[str, Any]:
    """`teachers` has the usual addresses of the providers that came as a teacher, by the provider's name."""
    return {"arrived": {}, "allowed": {}, "teachers": {}}


def _content(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(read_bounded(path, _MOST_BYTES))
        arrived, allowed, teachers = found["arrived"], found["allowed"], found.get("teachers", {})
        if not all(isinstance(one, str) for one in (*arrived.values(), *teachers.values())):
            raise TypeError
        allowed = {origin: list(names) for origin, names in allowed.items()}
        return {"arrived": arrived, "allowed": allowed, "teachers": teachers}
    except FileNotFoundError:
        return _nothing()
    except OSError as error:
        raise BitnetError(f"{path} can't be read {explained(error, 'check its permissions')}.") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise BitnetError(
            f"{path}, which says where keys may not go, is damaged; restore it, or delete it after a look at the "
            "addresses in the .env of each experiment that came from a storage target."
        ) from None


def _add(content: dict[str, Any], name: str, origin: str) -> None:
    content["allowed"][origin] = sorted({name, *content["allowed"].get(origin, [])})


@contextlib.contextmanager
def _changing() -> Iterator[dict[str, Any]]:
    """What the file holds, to be changed; it is written at the end, unless that was an error."""
    path = state_folder() / _NAME
    with writing(path, "check its folder"):
        path.parent.mkdir(parents=True, exist_ok=True)
        with files.locked(path.with_name(f".{path.name}.lock"), mode=0o600):
            content = _content(path)
            yield content
            files.write_bytes(path, json.dumps(content, indent=1).encode(), mode=0o600)
