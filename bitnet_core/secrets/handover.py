"""How keys reach a stage: over an inherited pipe, with an environment that holds none of them."""

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
from bitnet_core.secrets.redaction import Redactor
from bitnet_core.secrets.spellings import SHORTEST
from bitnet_core.settings.registry import REGISTRY
from bitnet_core.text import escaped, is_utf8

FD_VARIABLE = "BITNET_SECRETS_FD"
PIPE_SECONDS = 10.0
_LEAST_WITHIN = 8
"""A shorter value stands in other texts by chance; as the whole of a variable it counts."""
_NO_PLACEHOLDER = re.compile(r"\d|.{16}", re.DOTALL)
"""Servers without keys are given `lm-studio` or `llamacpp`, which stand in settings rightly."""
_NEEDED = ("HOME", "PATH", "PWD", "USER", "LOGNAME", "SHELL")
"""Without these no program works; who keeps a key there is beyond help."""


def is_telling(value: str) -> bool:
    """Whether a text that holds this holds a key, and not by chance a word that stands in for one."""
    return len(value) >= _LEAST_WITHIN and bool(_NO_PLACEHOLDER.search(value))


def environment_without_secrets(secrets: Iterable[str] = ()) -> dict[str, str]:
    """Our environment less every variable that is named like a secret, or holds one of these or one that is known."""
    # What is too short to be told from other text is too short to take OMP_NUM_THREADS=1 from a stage.
    met = {value for value in (*known.values(), *secrets) if len(value) >= SHORTEST}
    within = Redactor(value for value in met if len(value) >= _LEAST_WITHIN)
    return {
        name: value
        for name, value in os.environ.items()
        if name in _NEEDED or not (known.is_secret_name(name) or value in met or within.known(value) != value)
    }


def child_environment(values: Mapping[str, object], secrets: Iterable[str] = ()) -> dict[str, str]:
    """The environment of a stage: ours without any secret, plus the settings that libraries read there."""
    environment = environment_without_secrets(secrets)
    for name, setting in REGISTRY.items():
        if setting.exported and values.get(name) is not None:
            environment[name] = str(values[name])
    return environment


def refuse_in_record(settings: Mapping[str, object], argv: Sequence[str], secrets: Iterable[str] = ()) -> None:
    """UsageError for a setting or an argument that holds a key or is no text: both go into the run's record."""
    met = {*known.values(), *secrets}
    holds = Redactor(filter(is_telling, met))
    for name, value in settings.items():
        text = str(value) if isinstance(value, (str, Path)) else ""
        if holds.known(text) != text:
            raise UsageError(
                f"{name} holds a key, and settings are written into run records; take the key out of it."
            )
        if not is_utf8(text):
            raise UsageError(
                f"{name}={escaped(text)} is not UTF-8, and settings are written into run records; rename the "
                "folder or file."
            )
    if any(holds.known(text) != text for text in argv):
        raise UsageError("An argument of this command holds a key, and is written into run records; take it out.")
    if not all(map(is_utf8, argv)):
        raise UsageError("An argument of this command is not UTF-8, and goes into run records; rename its file.")


def start_with_secrets(
    command: Sequence[str],
    secrets: Mapping[str, str],
    environment: Mapping[str, str],
    *,
    stdout: int | IO[bytes],
    stderr: int | IO[bytes],
) -> "subprocess.Popen[str]":
    """Start a program in a session of its own, without a terminal; it gets the secrets through an inherited pipe."""
    read_end, write_end = os.pipe()
    try:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            text=True,
            pass_fds=(read_end,),
            env={**environment, FD_VARIABLE: str(read_end)},
            start_new_session=True,
        )
    finally:
        os.close(read_end)
    send(write_end, secrets)
    return child


def send(write_end: int, secrets: Mapping[str, str]) -> None:
    """Give a started stage its secrets through the pipe whose read end it inherited, and close the pipe."""
    # A stage that has died before it read them is noticed by its exit, not here.
    with contextlib.suppress(BrokenPipeError), os.fdopen(write_end, "w", encoding="utf-8") as sink:
        json.dump(dict(secrets), sink)


def read_from_pipe() -> dict[str, str]:
    """Take the secrets, a JSON object, from the inherited pipe that BITNET_SECRETS_FD names; once."""
    number = os.environ.pop(FD_VARIABLE, "")
    if not number:
        return {}
    try:
        text = _all_of(int(number)).decode()
        secrets = {str(name): str(value) for name, value in json.loads(text).items()}
    except TimeoutError:
        raise UsageError(
            f"{FD_VARIABLE}={number} came to no end in {PIPE_SECONDS:.0f} s; close the pipe behind the keys."
        ) from None
    except (OSError, ValueError, AttributeError):
        # Without the cause, which would quote what was read.
        raise UsageError(f"{FD_VARIABLE}={number} is no pipe with a JSON object of keys; pipe one in.") from None
    known.remember(secrets.values())
    return secrets


def _all_of(source: int) -> bytes:
    """What comes until the end, which must come in time: a terminal or a forgotten pipe never ends."""
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
