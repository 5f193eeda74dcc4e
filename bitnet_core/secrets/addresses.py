"""Addresses that came with an experiment from a storage target: no key goes there until the user allows it.

Whoever can write to the target chose them. They are kept in the user's own state folder, by scheme, host and port: so
no experiment can take itself off the list, and a renamed, moved or duplicated one is still known. Knows no network.
"""

import ipaddress
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from bitnet_core import files
from bitnet_core.errors import BitnetError, UsageError, explained
from bitnet_core.files.regular import read_bounded
from bitnet_core.files.user_folders import NoHome, state_folder
from bitnet_core.settings.registry import REGISTRY
from bitnet_core.settings.resolved import Settings
from bitnet_core.settings.values import TeacherOptions
from bitnet_core.text import flat

_NAME = "addresses.json"
_MOST_BYTES = 1 << 22
_SHOWN = 200
_PLAIN_HOST = re.compile(r"[a-z0-9_.-]+(:\d+)?|\[[0-9a-f:.]+\](:\d+)?", re.IGNORECASE)
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


def is_foreign(name: str, address: str, usual: Iterable[str]) -> bool:
    """Whether the setting `name` is an address on another machine, other than the `usual` ones."""
    if not name.endswith("_BASE_URL"):
        return False
    origin = origin_of(address)
    return not _is_loopback(origin) and origin not in {origin_of(one) for one in usual}


def note_arrived(addresses: Iterable[str], source: str) -> None:
    """Keep in mind that these came with an experiment; `source` names it. BitnetError if that can't be kept."""
    if origins := {origin_of(one): source for one in addresses}:
        _change("arrived", lambda arrived: {**origins, **arrived})


def allow(name: str, address: str) -> str:
    """Let the key `name` go to the address, and return its scheme, host and port. UsageError if it is none."""
    origin = origin_of(address)
    if not _ORIGIN.fullmatch(origin):
        raise UsageError(f"{flat(address)[:_SHOWN]} is no address of a server; give one such as https://host:8000.")
    _change("allowed", lambda allowed: {**allowed, origin: sorted({name, *allowed.get(origin, [])})})
    return origin


def require_allowed(names: Iterable[str], settings: Settings) -> None:
    """NotAllowed for the first key that would go to an address that came with an experiment."""
    options, known = TeacherOptions.of(settings), None
    own = options.chosen.upper()
    for name in names:
        of_teacher = name in ("TEACHER_API_KEY", f"{own}_API_KEY")
        setting = f"{own if of_teacher else name.removesuffix('_API_KEY')}_BASE_URL"
        if of_teacher and options.base_url:
            setting = "TEACHER_BASE_URL"
        address = settings.values.get(setting) if setting in REGISTRY else None
        if not address:
            continue
        origin = origin_of(str(address))
        known = _read() if known is None else known
        if origin in known["arrived"] and name not in known["allowed"].get(origin, []):
            raise NotAllowed(name, setting, settings.origin(setting), origin, known["arrived"][origin])


def _is_loopback(origin: str) -> bool:
    try:
        host = urlsplit(origin).hostname or "" if _ORIGIN.fullmatch(origin) else ""
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


# -- the file --------------------------------------------------------------------------------------------


def _read() -> dict[str, Any]:
    try:
        return _content(state_folder() / _NAME)
    except NoHome:  # then none can have been kept
        return {"arrived": {}, "allowed": {}}


def _content(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(read_bounded(path, _MOST_BYTES))
        arrived, allowed = found["arrived"], found["allowed"]
        if not all(isinstance(one, str) for one in arrived.values()):
            raise TypeError
        return {"arrived": arrived, "allowed": {origin: list(names) for origin, names in allowed.items()}}
    except FileNotFoundError:
        return {"arrived": {}, "allowed": {}}
    except OSError as error:
        raise BitnetError(f"{path} can't be read {explained(error, 'check its permissions')}.") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise BitnetError(
            f"{path}, which says where keys may not go, is damaged; restore it, or delete it after a look at the "
            "addresses in the .env of each experiment that came from a storage target."
        ) from None


def _change(part: str, edit: Any) -> None:
    path = state_folder() / _NAME
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with files.locked(path.with_name(f".{path.name}.lock"), mode=0o600):
            content = _content(path)
            content[part] = edit(content[part])
            files.write_bytes(path, json.dumps(content, indent=1).encode(), mode=0o600)
    except OSError as error:
        raise BitnetError(f"{path} can't be written {explained(error, 'check its folder')}.") from error
