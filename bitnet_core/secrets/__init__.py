"""API keys: where they are kept, how they reach a stage, and how they stay out of everything that is written.

`find.py` finds keys; `places.py` keeps them, in the OS keyring (`keyring_store.py`) or the vault (`vault.py`);
`inventory.py` lists them and moves them out of a `.env`. `handover.py` sends them to a stage. `known.py` remembers
those that this process knows, `redaction.py` masks them, `log_filter.py` does so in a stage's output. Imports nothing
slow: `keyring` is imported in a process of its own, `cryptography` when a vault is opened.
"""
