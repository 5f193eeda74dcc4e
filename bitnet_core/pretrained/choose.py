"""The model that STUDENT_INIT names, found and opened, and which of its layers STUDENT_INIT_LAYERS keeps."""

from pathlib import Path

from bitnet_core.errors import BitnetError, UsageError
from bitnet_core.files.user_folders import expanded
from bitnet_core.files.wheels import Progress
from bitnet_core.pretrained.folder_source import open_folder
from bitnet_core.pretrained.gguf_source import open_gguf
from bitnet_core.pretrained.source import Source
from bitnet_core.pretrained.wanted import Wanted
from bitnet_core.teachers.embedded.files import GGUF_SHA256, MODEL_NAME, ensure_files
from bitnet_core.teachers.hf.files import is_gguf
from bitnet_core.tokenizer.hub import download, is_hub_name

_HUB_FILES = ("config.json", "model*.safetensors", "tokenizer*.json", "tokenizer*.model", "special_tokens_map.json")
_CORRECT = "correct STUDENT_INIT"


def open_source(found: Wanted, progress: Progress | None = None, token: str | None = None) -> Source:
    """Find the model and read its headers. BitnetError names what is missing or does not fit."""
    if not found.model:
        return open_gguf(ensure_files(progress).gguf, MODEL_NAME, GGUF_SHA256)
    path = expanded(found.model)
    if path.is_dir():
        return open_folder(path, found.model, _CORRECT)
    if path.is_file() and is_gguf(path):
        return open_gguf(path, found.model)
    if path.exists() or not is_hub_name(found.model) or path.suffix:
        raise BitnetError(
            f"{found.model} is not a model: STUDENT_INIT is random, teacher, a folder with config.json and "
            "safetensors, a .gguf file, or a name on the hub."
        )
    return open_folder(_downloaded(found.model, token), found.model, _CORRECT)


def _downloaded(name: str, token: str | None) -> Path:
    return download(name, _HUB_FILES, kind="model", fix=_CORRECT, token=token)


def kept_layers(text: str, total: int) -> tuple[int, ...]:
    """The layers that STUDENT_INIT_LAYERS keeps of `total`: all if empty, that many if a number, else those listed.

    UsageError for anything else.
    """
    fault = UsageError(
        f"STUDENT_INIT_LAYERS is {text!r:.60}; give a number from 0 to {total}, or layers from 0 to {total - 1} in "
        "rising order, such as 0,1,2."
    )
    if not text:
        return tuple(range(total))
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() and len(part) < 7 for part in parts):
        raise fault
    numbers = tuple(map(int, parts))
    if len(numbers) == 1 and 1 <= numbers[0] <= total:
        return spread_layers(numbers[0], total)
    if len(numbers) == 1 or list(numbers) != sorted(set(numbers)) or numbers[-1] >= total:
        raise fault
    return numbers


def spread_layers(count: int, total: int) -> tuple[int, ...]:
    """`count` of `total` layers: the first two thirds of them from the beginning, the rest from the end."""
    last = count // 3
    return (*range(count - last), *range(total - last, total))
