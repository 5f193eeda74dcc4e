"""API keys: where they come from, how they reach a stage, and how they stay out of everything written.

Read order: a value piped in for this run → environment → OS keyring → `.env`. A keyring call may hang for ever
(a locked one that waits for a prompt nobody sees), so each runs in a process of its own with a time limit.
"""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from bitnet_core.config import Resolution, Settings
from bitnet_core.errors import BitnetError
from bitnet_core.settings import REGISTRY, SECRET_NAMES
from bitnet_core.stages import catalog

SERVICE = "bitnet-tui"
KEYRING_SECONDS = 5.0
FD_VARIABLE = "BITNET_SECRETS_FD"
_MASK = "•••"
_SHORTEST = 6
_KEYRING_CALL = """
import json, sys
import keyring
from keyring.errors import KeyringError, PasswordDeleteError
request = json.load(sys.stdin)
service, name = request["service"], request["name"]
try:
    if request["action"] == "get":
        answer = {"value": keyring.get_password(service, name)}
    elif request["action"] == "set":
        keyring.set_password(service, name, request["value"])
        answer = {}
    else:
        try:
            keyring.delete_password(service, name)
            answer = {"found": True}
        except PasswordDeleteError:
            answer = {"found": False}
except KeyringError as error:
    answer = {"error": type(error).__name__}
json.dump(answer, sys.stdout)
"""


@dataclass(frozen=True)
class FoundSecret:
    value: str
    origin: str


class Redactor:
    """Replaces every secret it knows, in the plain and in the JSON-escaped spelling."""

    def __init__(self, values: Iterable[str] = ()) -> None:
        spellings = {form for value in values if len(value) >= _SHORTEST for form in _spellings(value)}
        self._spellings = sorted(spellings, key=len, reverse=True)

    def __call__(self, text: str) -> str:
        for spelling in self._spellings:
            text = text.replace(spelling, _MASK)
        return text


def _spellings(value: str) -> tuple[str, str, str]:
    return value, json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1]


def names_for(stage: str, settings: Settings) -> tuple[str, ...]:
    """The secrets that a stage may need with these settings: the teacher's key, and nothing else."""
    provider = settings.text("TEACHER_PROVIDER")
    if provider == "embedded" or not catalog.stage(stage).uses_teacher:
        return ()
    wanted = ("HF_TOKEN",) if provider == "hf" else ("TEACHER_API_KEY", f"{provider.upper()}_API_KEY")
    return tuple(name for name in wanted if name in SECRET_NAMES)


def gather(names: Iterable[str], resolution: Resolution, *, use_keyring: bool = True) -> dict[str, FoundSecret]:
    """Find the secrets of these names; one that is nowhere is left out. Asks the keyring only when it must."""
    found: dict[str, FoundSecret] = {}
    for name in names:
        origin = resolution.secret_origins.get(name, "")
        in_file = resolution.secrets.get(name)
        if in_file and origin == "environment":
            found[name] = FoundSecret(in_file, origin)
        elif use_keyring and (kept := keyring_get(name)):
            found[name] = FoundSecret(kept, "keyring")
        elif in_file:
            found[name] = FoundSecret(in_file, f"{origin} (plain text)")
    return found


def keyring_get(name: str) -> str | None:
    """The value that the OS keyring holds; None when it has none, is absent, locked or does not answer."""
    value = _keyring({"action": "get", "name": name}).get("value")
    return value if isinstance(value, str) and value else None


def keyring_set(name: str, value: str) -> None:
    """Keep a key in the OS keyring, or say in a sentence why that can't be."""
    if name not in SECRET_NAMES:
        keys = ", ".join(sorted(n for n in SECRET_NAMES if n.endswith("_API_KEY")))
        raise BitnetError(f"{name} is no secret's name; the keys are {keys}.")
    problem = _keyring({"action": "set", "name": name, "value": value}).get("error")
    if problem:
        raise BitnetError(
            f"{name} could not be kept: the OS keyring is absent or locked ({problem}); "
            f"unlock it, or put {name} in the environment."
        )


def keyring_delete(name: str) -> bool:
    """Forget a key; True when there was one."""
    return bool(_keyring({"action": "delete", "name": name}).get("found"))


def _keyring(request: Mapping[str, str]) -> dict[str, object]:
    try:
        done = subprocess.run(
            [sys.executable, "-c", _KEYRING_CALL],
            input=json.dumps({"service": SERVICE, **request}),
            capture_output=True,
            text=True,
            timeout=KEYRING_SECONDS,
            check=False,
            # Its own session: a backend that would prompt on the terminal finds none and gives up.
            start_new_session=True,
        )
        answer = json.loads(done.stdout)
    except subprocess.TimeoutExpired:
        return {"error": f"no answer in {KEYRING_SECONDS:.0f} s"}
    except ValueError:
        return {"error": "no keyring backend works here"}
    return answer if isinstance(answer, dict) else {}


def child_environment(values: Mapping[str, object]) -> dict[str, str]:
    """The environment of a stage: ours without any secret, plus the settings that libraries read there."""
    environment = {name: value for name, value in os.environ.items() if name not in SECRET_NAMES}
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
    """In the stage: take the secrets from the inherited pipe, once."""
    number = os.environ.pop(FD_VARIABLE, "")
    if not number:
        return {}
    with os.fdopen(int(number), encoding="utf-8") as source:
        return {str(name): str(value) for name, value in json.load(source).items()}
