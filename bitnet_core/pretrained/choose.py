"""The model that STUDENT_INIT names, found and opened."""

from pathlib import Path

from bitnet_core.files.wheels import Progress
from bitnet_core.pretrained.folder_source import open_folder
from bitnet_core.pretrained.gguf_source import open_gguf
from bitnet_core.pretrained.located import located
from bitnet_core.pretrained.source import Source
from bitnet_core.pretrained.wanted import Wanted
from bitnet_core.teachers.embedded.files import GGUF_SHA256, MODEL_NAME, ensure_files
from bitnet_core.tokenizer.hub import download

_HUB_FILES = ("config.json", "model*.safetensors", "tokenizer*.json", "tokenizer*.model", "special_tokens_map.json")
_CORRECT = "correct STUDENT_INIT"


def open_source(found: Wanted, progress: Progress | None = None, token: str | None = None) -> Source:
    """Find the model and read its headers. BitnetError names what is missing or does not fit."""
    if not found.model:
        return open_gguf(ensure_files(progress).gguf, MODEL_NAME, GGUF_SHA256)
    path = located(found.model)
    if path is not None and path.is_file():
        return open_gguf(path, found.model)
    return open_folder(path or _downloaded(found.model, token), found.model, _CORRECT)


def _downloaded(name: str, token: str | None) -> Path:
    return download(name, _HUB_FILES, kind="model", fix=_CORRECT, token=token)
