"""API keys: where they are kept, how they reach a stage, how they stay out of everything that is written.

`lookup.py` finds and keeps them, `keyring_store.py` and `vault.py` are two places for them, `handover.py` is the pipe
to a stage, `known.py` remembers those that this process has met, `redaction.py` masks them. Imports nothing slow:
`keyring` lives in a process of its own, `cryptography` is imported when a vault is opened.
"""

from bitnet_core.secrets.handover import (
    child_environment,
    environment_without_secrets,
    is_telling,
    read_from_pipe,
    refuse_in_record,
    start_with_secrets,
)
from bitnet_core.secrets.known import keep_out_of_core_dumps, redactor, remember
from bitnet_core.secrets.lookup import FoundSecret, KeyPlaces, VaultLocked, gather, unlock_vault
from bitnet_core.secrets.redaction import Redactor

__all__ = [
    "FoundSecret",
    "KeyPlaces",
    "Redactor",
    "VaultLocked",
    "child_environment",
    "environment_without_secrets",
    "gather",
    "is_telling",
    "keep_out_of_core_dumps",
    "read_from_pipe",
    "redactor",
    "refuse_in_record",
    "remember",
    "start_with_secrets",
    "unlock_vault",
]
