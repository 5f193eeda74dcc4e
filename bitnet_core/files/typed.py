"""A path that was typed on a command line."""

import argparse
from pathlib import Path


def typed_path(text: str) -> Path:
    """The path; argparse refuses an empty one. A script's unset variable is one, and `Path` takes it for `.`."""
    if not text:
        raise argparse.ArgumentTypeError("it is empty; give a path or leave it out")
    return Path(text)
