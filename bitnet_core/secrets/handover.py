"""How keys reach a stage: over an inherited pipe, with an environment that holds none of them."""

import contextlib
import json
import os
from collections.abc import Mapping

from bitnet_core.errors import UsageError
from bitnet_core.settings import REGISTRY, SECRET_NAMES

FD_VARIABLE = "BITNET_SECRETS_FD"


def environment_without_secrets() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in SECRET_NAMES}


def child_environment(values: Mapping[str, object]) -> dict[str, str]:
    """The environment of a stage: ours without any secret, plus the settings that libraries read there."""
    environment = environment_without_secrets()
    for name, setting in REGISTRY.items():
        if setting.exported and values.get(name) is not None:
            environment[name] = str(values[name])
    return environment


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
        with os.fdopen(int(number), encoding="utf-8") as source:
            return {str(name): str(value) for name, value in json.load(source).items()}
    except (OSError, ValueError, AttributeError):
        # Without the cause, which would quote what was read.
        raise UsageError(f"{FD_VARIABLE}={number} is no pipe with a JSON object of keys; pipe one in.") from None
