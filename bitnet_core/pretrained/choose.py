"""The model that STUDENT_INIT names, found and opened."""

from collections.abc import Sequence
from pathlib import Path

from bitnet_core.files.wheels import Progress
from bitnet_core.model.config import StudentConfig
from bitnet_core.model.presets import preset
from bitnet_core.pretrained.folder_source import configured_shape, open_folder
from bitnet_core.pretrained.gguf_source import open_gguf
from bitnet_core.pretrained.located import located
from bitnet_core.pretrained.source import Source
from bitnet_core.pretrained.wanted import Wanted
from bitnet_core.settings.presets import EMBEDDED
from bitnet_core.teachers.embedded.files import GGUF_SHA256, MAX_CONTEXT, MODEL_NAME, VOCABULARY, ensure_files
from bitnet_core.tokenizer.hub import download

_CONFIG = "config.json"
_HUB_FILES = (_CONFIG, "model*.safetensors", "tokenizer*.json", "tokenizer*.model", "special_tokens_map.json")
_CORRECT = "correct STUDENT_INIT"


def open_source(found: Wanted, progress: Progress | None = None, token: str | None = None) -> Source:
    """Find the model and read its headers. BitnetError names what is missing or does not fit."""
    if not found.model:
        return open_gguf(ensure_files(progress).gguf, MODEL_NAME, GGUF_SHA256)
    path = located(found.model)
    if path is not None and path.is_file():
        return open_gguf(path, found.model)
    return open_folder(path or _downloaded(found.model, _HUB_FILES, token), found.model, _CORRECT)


def planned_shape(found: Wanted) -> StudentConfig:
    """The shape of the model for a plan, which downloads no weights. BitnetError as `open_source`.

    Of a model on the hub the configuration tells it, and that of the embedded teacher is known.
    """
    if not found.model:
        return preset(EMBEDDED, VOCABULARY, max_positions=MAX_CONTEXT)
    if located(found.model) is None:
        return configured_shape(_downloaded(found.model, (_CONFIG,), None), found.model)
    return open_source(found).shape


def _downloaded(name: str, patterns: Sequence[str], token: str | None) -> Path:
    return download(name, patterns, kind="model", fix=_CORRECT, token=token)
