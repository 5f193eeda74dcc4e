"""Every secret value that this process knows, so that it neither shows one nor passes one on.

Whatever reads a key calls `remember`: resolving settings, the pipe, a prompt, a place that keeps keys. This module
never looks for keys itself, except in the environment.
"""

import os
import re
import resource
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from bitnet_core.settings.registry import SECRET_NAMES
from bitnet_core.settings.resolved import Resolution

if TYPE_CHECKING:
    from bitnet_core.secrets.redaction import Redactor

_SHORTEST_FOREIGN = 8
"""Another program's variable that is only named like a secret may be `true` or `always`."""
# Compiled when they are used, which is after the first paint.
_NAMED_LIKE_A_KEY = (
    r"(?i:(?:^|_)(?:API_?KEY|API_?TOKEN|TOKEN|SECRET|SECRET_KEY|PASSWORD|PASSWD|PASSPHRASE|ACCESS_KEY|PRIVATE_KEY)$)"
)
_ADDRESS_WITH_LOGIN = r"(?is:[a-z][a-z0-9+.-]*://[^/:@]*:(.+)@)"
"""Up to the last @: a password that is not encoded may have one."""

_values: set[str] = set()


def remember(values: Iterable[str]) -> None:
    """From now on `redactor` masks these values, and the secret that one of them holds inside."""
    for value in filter(None, values):
        _values.update((value, *_inside(value)))


def _inside(value: str) -> set[str]:
    """The password of an address that has one, such as that of a database, as it is written there and decoded."""
    found = re.match(_ADDRESS_WITH_LOGIN, value)
    if found is None:
        return set()
    from bitnet_core.secrets.encodings import SHORTEST_KEY

    return {password for password in (found[1], unquote(found[1])) if len(password) >= SHORTEST_KEY}


def resolve_and_remember(
    overrides: Mapping[str, str] | None = None,
    *,
    root: Path | None = None,
    env_file: Path | None = None,
    instead: Mapping[Path, str] | None = None,
) -> Resolution:
    """As `resolve`; from then on `redactor` masks each secret that any layer holds."""
    from bitnet_core.settings.resolve import resolve  # slow, and most users of this module need only the redactor

    resolution = resolve(overrides, root=root, env_file=env_file, instead=instead)
    remember(resolution.secret_values)
    return resolution


def values() -> frozenset[str]:
    """The remembered values, and those of variables in the environment that are named like a secret."""
    return frozenset(_values | {value for name, value in os.environ.items() if value and _is_secret(name, value)})


def redactor() -> "Redactor":
    """A redactor that masks every value that is known now."""
    return _redactor_of(values())


@lru_cache(maxsize=4)
def _redactor_of(known: frozenset[str]) -> "Redactor":
    from bitnet_core.secrets.redaction import Redactor  # compiles many patterns, and the first paint needs none

    return Redactor(known)


def is_secret_name(name: str) -> bool:
    """One of our names, or another program's, such as HUGGING_FACE_HUB_TOKEN or AWS_SESSION_TOKEN."""
    return name in SECRET_NAMES or bool(re.search(_NAMED_LIKE_A_KEY, name))


def keep_out_of_core_dumps() -> None:
    """Make a crash of this process leave no image of its memory."""
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _is_secret(name: str, value: str) -> bool:
    return name in SECRET_NAMES or (is_secret_name(name) and len(value) >= _SHORTEST_FOREIGN)
