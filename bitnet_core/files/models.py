"""What a text that names a model can be: a folder, a `.gguf` file, or a name on the hub. Light: it opens no file."""

import os
import re
from pathlib import Path
from typing import Literal

from bitnet_core.files.user_folders import expanded

_HUB_NAME = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")
_NUMBER = re.compile(r"[-+]?[\d._]+(e[-+]?\d+)?", re.IGNORECASE)
"""What is typed by mistake where a model is asked for, such as `3e-4`: no repository is named so."""
_OF_A_FILE = re.compile(r"\.[A-Za-z]\w*$")
"""How a file's name ends, and none on the hub, where versions and sizes have dots: `TinyLlama-1.1B-Chat-v1.0`."""
Kind = Literal["folder", "gguf", "hub", ""]


def is_gguf(path: Path) -> bool:
    return path.suffix.lower() == ".gguf"


def is_hub_name(text: str) -> bool:
    """Whether `text` has the form of a repository's name on the hub."""
    return _HUB_NAME.fullmatch(text) is not None and _NUMBER.fullmatch(text) is None


def may_name_model(text: str) -> bool:
    """Whether `text` has the form of a path or of a name on the hub, or names what is here."""
    has_path_form = text.startswith("~") or ("://" not in text and ("/" in text or "\\" in text))
    # A downloaded file may be called `model (1).gguf`. Once it is removed, only a start from it lacks something.
    return has_path_form or is_hub_name(text) or is_gguf(Path(text)) or os.path.lexists(text)


def kind_of(text: str) -> Kind:
    """What the text names; empty for a file of another kind, and for what is neither here nor a name on the hub."""
    path = expanded(text)
    if path.is_dir():
        return "folder"
    if path.is_file() and is_gguf(path):
        return "gguf"
    is_hub = is_hub_name(text) and not _OF_A_FILE.search(text)
    return "hub" if is_hub and not path.exists() else ""
