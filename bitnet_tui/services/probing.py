"""Asks a model what it can do, before an experiment is made: `bitnet providers probe` in a process of its own."""

from collections.abc import Mapping
from pathlib import Path

from bitnet_core.secrets.addresses import require_allowed
from bitnet_core.teachers.profiles import PROVIDERS
from bitnet_tui.services.commands import Command, find_keys
from bitnet_tui.services.settings import resolved

SECONDS = 90.0
LOADING_SECONDS = 900.0
"""The limit for a model that runs on this machine: it is loaded first, or even fetched."""


class Probe(Command):
    """One question to one model. `values` are the settings to ask with; without `key`, the stored one is used."""

    def __init__(self, home: Path, provider: str, model: str, values: Mapping[str, str], key: str) -> None:
        self._provider = PROVIDERS[provider]
        self._key = key
        arguments = ["providers", "probe", provider, *(["--model", model] if model else [])]
        limit = LOADING_SECONDS if self._provider.loads_first else SECONDS
        super().__init__(home, arguments, values, limit, self._provider.label)

    def worded(self, sentence: str) -> str:
        """As it is: the guide has its own words for it, as a key is typed into its field there."""
        return sentence

    def keys(self) -> dict[str, str]:
        """A typed key goes under every name, so that no kept key is used in its place."""
        names = self._provider.key_settings(own=True)
        if self._key:
            require_allowed(names, resolved(self.home, values=self.values).settings)
            return dict.fromkeys(names, self._key)
        return find_keys(self.home, names, self.values, {})
