"""Where the model is that STUDENT_INIT names, and what its configuration says. It must not import torch."""

import json
from pathlib import Path
from typing import Any

from bitnet_core.errors import BitnetError
from bitnet_core.files.models import kind_of
from bitnet_core.files.user_folders import expanded
from bitnet_core.tokenizer.folder import read_text


def located(model: str) -> Path | None:
    """The folder or `.gguf` file of a model; None for one on the hub. BitnetError for what is none of them."""
    kind = kind_of(model)
    if not kind:
        raise BitnetError(
            f"{model} is not a model: STUDENT_INIT is random, teacher, a folder with config.json and "
            "safetensors, a .gguf file, or a name on the hub."
        )
    return None if kind == "hub" else expanded(model)


def configuration(folder: Path) -> Any:
    """What the `config.json` of a model holds. BitnetError if there is none, or it is not JSON."""
    if not (folder / "config.json").is_file():
        raise BitnetError(f"{folder} holds no model (no config.json); give another folder in STUDENT_INIT.")
    try:
        return json.loads(read_text(folder / "config.json"))
    except (ValueError, RecursionError) as error:
        raise BitnetError(f"{folder / 'config.json'} is not JSON; get the model's files again.") from error
