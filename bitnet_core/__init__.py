"""Core of bitnet-tui: everything the app and the command line do, without a screen.

The light half (settings, experiments, runs, events, secrets, the providers' table) imports no torch,
transformers, pyarrow or numpy; the heavy half is imported only inside a stage's own process.
"""

__version__ = "0.1.0"
