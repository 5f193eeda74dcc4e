"""API keys: where they are kept, how they reach a stage, and how they stay out of everything that is written.

`find.py` finds keys; `places.py` keeps them, in the OS keyring (`keyring_store.py`) or the vault (`vault.py`);
`inventory.py` lists them and moves them out of a `.env`. `handover.py` sends them to a stage. `known.py` remembers
those that this process knows, `redaction.py` masks them, `log_filter.py` does so in a stage's output. Imports nothing
slow: `keyring` is imported in a process of its own, `cryptography` when a vault is opened.
"""

from bitnet_core.secrets.find import FoundSecret, find_secrets
from bitnet_core.secrets.handover import (
    child_environment,
    environment_without_secrets,
    is_distinctive,
    read_from_pipe,
    refuse_unrecordable,
    start_with_secrets,
)
from bitnet_core.secrets.known import keep_out_of_core_dumps, redactor, remember
from bitnet_core.secrets.places import KeyPlaces, VaultLocked, unlock_vault
from bitnet_core.secrets.redaction import Redactor

__all__ = [
    "FoundSecret",
    "KeyPlaces",
    "Redactor",
    "VaultLocked",
    "child_environment",
    "environment_without_secrets",
    "find_secrets",
    "is_distinctive",
    "keep_out_of_core_dumps",
    "read_from_pipe",
    "redactor",
    "refuse_unrecordable",
    "remember",
    "start_with_secrets",
    "unlock_vault",
]
