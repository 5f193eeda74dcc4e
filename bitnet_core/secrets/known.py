"""Every secret value that this process has met: what it may neither show nor hand on. Never asks for one itself.

Whoever reads a key says so here: settings that were resolved, what was piped in or typed, what a place gave.
"""

import os
import re
import resource
from collections.abc import Iterable
from contextlib import suppress
from functools import lru_cache

from bitnet_core.secrets.redaction import Redactor
from bitnet_core.settings.registry import SECRET_NAMES

_LEAST_FOREIGN = 8
"""A variable that only sounds like a secret may hold `true` or `always`."""
_SOUNDS_SECRET = re.compile(
    r"(?:^|_)(?:API_?KEY|API_?TOKEN|TOKEN|SECRET|SECRET_KEY|PASSWORD|PASSWD|PASSPHRASE|ACCESS_KEY|PRIVATE_KEY)$",
    re.IGNORECASE,
)

_values: set[str] = set()


def remember(values: Iterable[str]) -> None:
    _values.update(value for value in values if value)


def values() -> frozenset[str]:
    """What was remembered, and what the environment holds under a secret's name or one that sounds like it."""
    return frozenset(_values | {value for name, value in os.environ.items() if value and _is_secret(name, value)})


def redactor() -> Redactor:
    """Masks all of it."""
    return _redactor(values())


def is_secret_name(name: str) -> bool:
    """Ours, or another program's name for the same: HUGGING_FACE_HUB_TOKEN, GOOGLE_API_KEY, AWS_SESSION_TOKEN."""
    return name in SECRET_NAMES or bool(_SOUNDS_SECRET.search(name))


def keep_out_of_core_dumps() -> None:
    """A process that holds keys leaves no image of its memory when it crashes."""
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _is_secret(name: str, value: str) -> bool:
    return name in SECRET_NAMES or (is_secret_name(name) and len(value) >= _LEAST_FOREIGN)


@lru_cache(maxsize=4)
def _redactor(of: frozenset[str]) -> Redactor:
    return Redactor(of)
