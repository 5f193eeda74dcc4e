"""What is known at once of a model that a student is to start from: where it is, and whether it is one.

Slow, so call it in a thread. It asks nobody: a model on the hub is only looked for among those that are here.
"""

import json
import os
from pathlib import Path
from typing import NamedTuple

from bitnet_core.files.models import kind_of
from bitnet_core.files.regular import open_regular
from bitnet_core.files.user_folders import NoHome, expanded
from bitnet_core.text import size

_GGUF = b"GGUF"
_MOST_JSON = 1 << 20
_SHAPE = ("num_hidden_layers", "hidden_size")
_OF_THE_HUB = "Looks like a name on the hub; it will be downloaded from there."
_OWN = ("", "random", "teacher")
"""What names no other model."""


class Start(NamedTuple):
    """What a text names, in words; `wrong` if training would refuse it."""

    text: str
    words: str
    wrong: bool = False


def known(text: str) -> Start:
    """What is known of the model that a text names."""
    if text in _OWN:
        return Start(text, "")
    try:
        return _found(text)
    except (OSError, NoHome) as error:
        return Start(text, f"it can't be read ({error})", wrong=True)


def _found(text: str) -> Start:
    kind = kind_of(text)
    if kind == "folder":
        return _folder(text, expanded(text))
    if kind == "gguf":
        return _gguf(text, expanded(text))
    if kind == "hub":
        here = any(_kept(text).glob("snapshots/*/config.json"))
        told = "A model of the hub, downloaded already." if here else _OF_THE_HUB
        return Start(text, told)
    if expanded(text).exists():
        return Start(text, "a file that is no .gguf file", wrong=True)
    return Start(text, "neither a folder or .gguf file here, nor a name on the hub", wrong=True)


def _folder(text: str, path: Path) -> Start:
    if not (path / "config.json").is_file():
        return Start(text, "this folder holds no model (no config.json)", wrong=True)
    try:
        with open_regular(path / "config.json") as file:
            found = json.loads(file.read(_MOST_JSON))
    except (ValueError, RecursionError):
        return Start(text, "config.json in this folder is not JSON", wrong=True)
    if not any(path.glob("*.safetensors")):
        return Start(text, "this folder has no weights (no .safetensors)", wrong=True)
    layers, width = (found.get(name) if isinstance(found, dict) else None for name in _SHAPE)
    shape = f" of {layers} layers, {width} wide" if type(layers) is int and type(width) is int else ""
    return Start(text, f"A folder with a model{shape}.")


def _gguf(text: str, path: Path) -> Start:
    with open_regular(path) as file:
        if file.read(len(_GGUF)) != _GGUF:
            return Start(text, "this file is not GGUF inside", wrong=True)
    return Start(text, f"A GGUF file of {size(path.stat().st_size)}.")


def _kept(name: str) -> Path:
    """Where the hub's own cache has a model."""
    home = os.environ.get("HF_HOME") or "~/.cache/huggingface"
    return expanded(os.environ.get("HF_HUB_CACHE") or f"{home}/hub") / f"models--{name.replace('/', '--')}"
