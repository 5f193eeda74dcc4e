"""How keys reach a stage: through an inherited pipe, while its environment, arguments and run record have none."""

import contextlib
import json
import os
import re
import select
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO

from bitnet_core.errors import UsageError
from bitnet_core.secrets import known
from bitnet_core.secrets.encodings import SHORTEST_KEY
from bitnet_core.secrets.redaction import Redactor
from bitnet_core.settings.registry import REGISTRY
from bitnet_core.text import escaped, is_utf8

FD_VARIABLE = "BITNET_SECRETS_FD"
PIPE_SECONDS = 10.0
_ENCODING, _SET_ASIDE = "PYTHONIOENCODING", "BITNET_STREAM_ENCODING"
_SHORTEST_WITHIN = 8
"""A shorter value is part of other texts by chance; it counts only as the whole value of a variable."""
_NOT_A_PLACEHOLDER = re.compile(r"\d|.{16}", re.DOTALL)
"""Servers that need no key are given a word such as `lm-studio` or `llamacpp`, which settings contain too."""
_ALWAYS_KEPT = ("HOME", "PATH", "PWD", "USER", "LOGNAME", "SHELL")
"""Programs don't work without these variables, even if one contains a key."""


def is_distinctive(value: str) -> bool:
    """Whether a text with this value in it contains a key, rather than a word that is also used as one."""
    return len(value) >= _SHORTEST_WITHIN and bool(_NOT_A_PLACEHOLDER.search(value))


def environment_without_secrets(secrets: Iterable[str] = (), *, for_users_own: bool = False) -> dict[str, str]:
    """Our environment without variables that are named like a secret, or contain a known one or one of `secrets`.

    PYTHONIOENCODING is set aside, as the pipes to what is started are read in the locale's encoding. A program of the
    user's (`for_users_own`) has it as the user has set it, even if it is started by what was started.
    """
    # A secret as short as `1` must not remove OMP_NUM_THREADS=1.
    values = {value for value in (*known.values(), *secrets) if len(value) >= SHORTEST_KEY}
    within = Redactor(value for value in values if len(value) >= _SHORTEST_WITHIN)
    given, taken = (_SET_ASIDE, _ENCODING) if for_users_own else (_ENCODING, _SET_ASIDE)
    return {
        taken if name == given else name: value
        for name, value in os.environ.items()
        if name in _ALWAYS_KEPT
        or not (known.is_secret_name(name) or value in values or within.mask_known(value) != value)
    }


def child_environment(values: Mapping[str, object], secrets: Iterable[str] = ()) -> dict[str, str]:
    """The environment of a stage: ours without secrets, plus the settings that libraries read there."""
    environment = environment_without_secrets(secrets)
    for name, setting in REGISTRY.items():
        if setting.exported and values.get(name) is not None:
            environment[name] = str(values[name])
    return environment


def refuse_unrecordable(settings: Mapping[str, object], argv: Sequence[str], secrets: Iterable[str] = ()) -> None:
    """UsageError if a setting or an argument contains a key or is not UTF-8: the run's record will have them all."""
    keys = Redactor(filter(is_distinctive, {*known.values(), *secrets}))
    for name, value in settings.items():
        text = str(value) if isinstance(value, (str, Path)) else ""
        if keys.mask_known(text) != text:
            raise UsageError(f"{name} holds a key, and settings are written into run records; take the key out.")
        if not is_utf8(text):
            raise UsageError(
                f"{name}={escaped(text)} is not UTF-8, as run records must be; rename the file or folder."
            )
    if any(keys.mask_known(text) != text for text in argv):
        raise UsageError("An argument of this command holds a key, and is written into run records; take it out.")
    if not all(map(is_utf8, argv)):
        raise UsageError("An argument of this command is not UTF-8, as run records must be; rename its file.")


def start_with_secrets(
    command: Sequence[str],
    secrets: Mapping[str, str],
    environment: Mapping[str, str],
    output: int | IO[bytes],
    pass_fds: Sequence[int] = (),
    given: int = subprocess.DEVNULL,
) -> "subprocess.Popen[str]":
    """Start a program in a session of its own, without a terminal, and send it the secrets through a pipe.

    Its stdout and stderr both go to `output`; if that is `subprocess.PIPE`, each to a pipe of its own. Its stdin is
    `given`, nothing or `subprocess.PIPE`. It inherits the descriptors `pass_fds`.
    """
    read_end, write_end = os.pipe()
    try:
        child = subprocess.Popen(
            command,
            stdin=given,
            stdout=output,
            stderr=output,
            text=True,
            pass_fds=(read_end, *pass_fds),
            env={**environment, FD_VARIABLE: str(read_end)},
            start_new_session=True,
        )
    finally:
        os.close(read_end)
    send_secrets(write_end, secrets)
    return child


def send_secrets(write_end: int, secrets: Mapping[str, str]) -> None:
    """Write the secrets as JSON and close the pipe."""
    # A program that dies before it reads them is noticed by its exit.
    with contextlib.suppress(BrokenPipeError), os.fdopen(write_end, "w", encoding="utf-8") as sink:
        json.dump(dict(secrets), sink)


def read_from_pipe() -> dict[str, str]:
    """Read the secrets, a JSON object, from the pipe that BITNET_SECRETS_FD names; empty on every later call.

    UsageError if the pipe does not end within 10 s or has something else in it.
    """
    number = os.environ.pop(FD_VARIABLE, "")
    if not number:
        return {}
    try:
        text = _read_to_end(int(number)).decode()
        secrets = {str(name): str(value) for name, value in json.loads(text).items()}
    except TimeoutError:
        late = f"{FD_VARIABLE}={number} did not end within {PIPE_SECONDS:.0f} s"
        raise UsageError(f"{late}; close the pipe after writing the keys.") from None
    except (OSError, ValueError, AttributeError):
        # No cause: it would quote what was read.
        raise UsageError(f"{FD_VARIABLE}={number} is not a pipe with a JSON object of keys; pipe one in.") from None
    known.remember(secrets.values())
    return secrets


def _read_to_end(source: int) -> bytes:
    """Everything until the end of the pipe; TimeoutError if it does not end: a terminal, or a pipe left open."""
    deadline = time.monotonic() + PIPE_SECONDS
    data, waiting = b"", select.poll()
    waiting.register(source, select.POLLIN)
    try:
        while waiting.poll(max(0.0, deadline - time.monotonic()) * 1000):
            if not (chunk := os.read(source, 1 << 16)):
                return data
            data += chunk
        raise TimeoutError
    finally:
        with contextlib.suppress(OSError):
            os.close(source)
