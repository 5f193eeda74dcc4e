"""Where the files of a transformers model are, and what identifies the model. It must not import torch."""

import functools
import hashlib
import json
from pathlib import Path

from bitnet_core import files
from bitnet_core.errors import BitnetError, explained, raise_if_not_the_file
from bitnet_core.files.models import is_gguf, is_hub_name
from bitnet_core.files.user_folders import expanded
from bitnet_core.tokenizer.folder import JSON_TEMPLATE_FILE, NAMED_TEMPLATES
from bitnet_core.tokenizer.hub import download

_WEIGHTS = ("*.safetensors", "*.safetensors.index.json", "*.bin", "*.bin.index.json")
_TEXTS = (
    *("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"),
    "tokenizer.model",
)
_OTHER_TEMPLATES = (JSON_TEMPLATE_FILE, NAMED_TEMPLATES)
_CORRECT = "correct TEACHER_MODEL or HF_MODEL"
_MOST_JSON = 1 << 27
"""Bytes of the largest JSON beside weights, a vocabulary or an index: some tens of MiB."""


def locate(model: str, token: str | None = None) -> Path:
    """The folder of a model, or its GGUF file. A model on the hub is downloaded once, into the hub's own cache.

    BitnetError names what is missing and the fix.
    """
    path = expanded(model)
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise BitnetError(f"{path} holds no model (no config.json); {_CORRECT}.")
        for one in path.glob("*.json"):
            if files.is_file(one) and one.stat().st_size > _MOST_JSON:  # transformers would read it whole
                raise BitnetError(
                    f"{one} is longer than {_MOST_JSON >> 20} MiB, so it does not belong to a model; {_CORRECT}."
                )
        return path
    if path.is_file() and is_gguf(path):
        return path
    if path.exists() or not is_hub_name(model):
        raise BitnetError(
            f"{model} is not a model: give a folder with config.json, weights and tokenizer.json, a .gguf file, or a "
            "name on the hub in TEACHER_MODEL or HF_MODEL."
        )
    return download(model, (*_TEXTS, *_OTHER_TEMPLATES, *_WEIGHTS), kind="model", fix=_CORRECT, token=token)


def headers(model: str, token: str | None = None) -> Path:
    """As `locate`; of a model on the hub only the configuration is downloaded."""
    if expanded(model).exists() or not is_hub_name(model):
        return locate(model, token)
    return download(model, ("config.json",), kind="model", fix=_CORRECT, token=token)


def has_weights(path: Path) -> bool:
    """Whether what `headers` found is more than a configuration."""
    return is_gguf(path) or any(one for pattern in _WEIGHTS for one in path.glob(pattern))


def origin(model: str) -> str:
    """Identifies a model's weights and tokenizer: the hub's revision, or a hash of the files' contents."""
    path = expanded(model)
    if path.is_dir() or path.is_file():
        return f"files:{content_hash(locate(model))}"
    # A snapshot's folder is named after its revision; the configuration alone is enough to learn it.
    return f"hub:{download(model, ('config.json',), kind='model', fix=_CORRECT).name}"


def content_hash(path: Path) -> str:
    """Hash of a model's weights, configuration and tokenizer: of a folder, or a GGUF file and what is beside it.

    BitnetError for one of them that can't be read, such as a pipe or a link to nothing.
    """
    parts = [path] if is_gguf(path) else [found for pattern in _WEIGHTS for found in sorted(path.glob(pattern))]
    folder = path.parent if is_gguf(path) else path
    parts += [folder / name for name in _TEXTS if (folder / name).is_file()]
    try:
        stats = [(part, part.stat()) for part in parts]
        return _hash_files(tuple((str(part), stat.st_size, stat.st_mtime_ns) for part, stat in stats))
    except OSError as error:
        raise_if_not_the_file(error, path)
        place = error.filename or path
        raise BitnetError(
            f"{place} can't be read {explained(error, 'get the files of this model again')}."
        ) from error


@functools.cache
def _hash_files(parts: tuple[tuple[str, int, int], ...]) -> str:
    """sha256 of names, sizes and contents; a file is read again only if its size or time has changed."""
    contents = [[Path(part).name, size, files.sha256_file(Path(part))] for part, size, _ in parts]
    return hashlib.sha256(json.dumps(contents).encode()).hexdigest()
