"""Asks a model what it can do, before an experiment is made: `bitnet providers probe` in a process of its own.

Slow (a network, a keyring), so call it in a thread; another thread may cancel it.
"""

import json
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from bitnet_core import process
from bitnet_core.errors import BitnetError
from bitnet_core.secrets.find import find_secrets
from bitnet_core.secrets.handover import environment_without_secrets, start_with_secrets
from bitnet_core.teachers.profiles import PROVIDERS
from bitnet_core.text import duration
from bitnet_tui.services.settings import overrides, resolved

SECONDS = 90.0
LOADING_SECONDS = 900.0
"""The limit for a model that runs on this machine: it is loaded first, or even fetched."""


class Probe:
    """One question to one model. `values` are the settings to ask with; without `key`, the stored one is used."""

    def __init__(self, home: Path, provider: str, model: str, values: Mapping[str, str], key: str) -> None:
        self._home = home
        self._provider = PROVIDERS[provider]
        self._model = model
        self._values = values
        self._key = key
        self._process: subprocess.Popen[str] | None = None
        self._cancelled = False

    def run(self) -> dict[str, Any]:
        """The report of `bitnet providers probe --json`. BitnetError if there is none, or VaultLocked."""
        return self._ask(self._command(), self._keys())

    def cancel(self) -> None:
        self._cancelled = True
        if self._process is not None:
            process.kill_group(self._process.pid)

    def _command(self) -> list[str]:
        command = [sys.executable, "-m", "bitnet_core", "--json", "providers", "probe", self._provider.name]
        command += ["--model", self._model] if self._model else []
        for name, value in overrides(self._home, self._values).items():
            command += ["--set", f"{name}={value}"]
        return command

    def _keys(self) -> dict[str, str]:
        names = self._provider.key_settings(own=True)
        if self._key:  # under every name, so that no kept key is used in its place
            return dict.fromkeys(names, self._key)
        found = find_secrets(names, resolved(self._home, values=self._values))
        return {name: secret.value for name, secret in found.items()}

    def _ask(self, command: list[str], keys: dict[str, str]) -> dict[str, Any]:
        limit = LOADING_SECONDS if self._provider.loads_first else SECONDS
        environment = environment_without_secrets()
        self._process = start_with_secrets(command, keys, environment, subprocess.PIPE)
        with self._process as child:
            if self._cancelled:  # while the process was being started
                process.kill_group(child.pid)
            try:
                output, complaint = process.communicate(child, limit)
            except subprocess.TimeoutExpired:
                raise BitnetError(
                    f"{self._provider.label} gave no complete answer in {duration(limit)}; try again."
                ) from None
        return _report(output, complaint, child.returncode)


def _report(output: str, complaint: str, exit_code: int) -> dict[str, Any]:
    """The last line of the output if it is a JSON object; else BitnetError with the command's own sentence."""
    with suppress(ValueError, IndexError):
        report = json.loads(output.splitlines()[-1])
        if isinstance(report, dict):
            return report
    sentences = [line.removeprefix("bitnet: ") for line in complaint.splitlines() if line.startswith("bitnet: ")]
    raise BitnetError(
        sentences[-1] if sentences else f"The test failed (exit code {exit_code}); try `bitnet providers probe`."
    )
