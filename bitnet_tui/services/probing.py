"""Asks a model what it can do before an experiment is made of it: `bitnet providers probe`, in a process of its own.

Slow (a network, a keyring), so always called in a thread; it can be given up from another one.
"""

import json
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from bitnet_core import process, secrets
from bitnet_core.errors import BitnetError
from bitnet_core.secrets.resolving import resolve_and_remember
from bitnet_core.teachers.profiles import PROVIDERS

SECONDS = 90.0
LOADING_SECONDS = 900.0
"""A model that runs on this machine is read first, or even fetched."""


class Probe:
    """One question. `key` is what was typed; empty = where keys are kept."""

    def __init__(self, home: Path, provider: str, model: str, base_url: str, key: str) -> None:
        self._home = home
        self._provider = PROVIDERS[provider]
        self._model = model
        self._base_url = base_url
        self._key = key
        self._process: subprocess.Popen[str] | None = None
        self._given_up = False

    def run(self) -> dict[str, Any]:
        """The report of `bitnet providers probe --json`; BitnetError where there is none, VaultLocked for a key."""
        provider = self._provider
        given = {"BITNET_HOME": str(self._home), "TEACHER_PROVIDER": provider.name}
        if self._base_url:
            given[provider.base_url_setting] = self._base_url
        resolution = resolve_and_remember(given)
        names = ("TEACHER_API_KEY", provider.key_setting)
        found = {} if self._key else secrets.find_secrets(names, resolution)
        # What was typed is asked with, whatever is kept under any of the names.
        keys = dict.fromkeys(names, self._key) if self._key else {name: one.value for name, one in found.items()}
        command = [sys.executable, "-m", "bitnet_core", "--json", "providers", "probe", provider.name]
        command += ["--model", self._model] if self._model else []
        for name, value in given.items():
            command += ["--set", f"{name}={value}"]
        return self._asked(command, keys)

    def give_up(self) -> None:
        self._given_up = True
        if self._process is not None:
            process.kill_group(self._process.pid)

    def _asked(self, command: list[str], keys: dict[str, str]) -> dict[str, Any]:
        limit = LOADING_SECONDS if self._provider.loads_first else SECONDS
        environment = secrets.environment_without_secrets()
        pipe = subprocess.PIPE
        self._process = secrets.start_with_secrets(command, keys, environment, stdout=pipe, stderr=pipe)
        with self._process as child:
            if self._given_up:  # between the start and the look at it
                process.kill_group(child.pid)
            try:
                told, complaint = process.communicate(child, limit)
            except subprocess.TimeoutExpired:
                raise BitnetError(
                    f"{self._provider.label} gave no whole answer in {limit:.0f} s; try again."
                ) from None
        return _report(told, complaint, child.returncode)


def _report(told: str, complaint: str, code: int) -> dict[str, Any]:
    with suppress(ValueError, IndexError):
        report = json.loads(told.splitlines()[-1])
        if isinstance(report, dict):
            return report
    said = [line.removeprefix("bitnet: ") for line in complaint.splitlines() if line.startswith("bitnet: ")]
    raise BitnetError(said[-1] if said else f"The question failed (exit code {code}); try `bitnet providers probe`.")
