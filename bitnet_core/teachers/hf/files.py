"""Where the files of a transformers model are, and what makes them the same model. Imports neither torch nor it."""

import functools
import hashlib
import json
import re
from pathlib import Path

from bitnet_core import files
from bitnet_core.errors import BitnetError

_HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")
_WEIGHTS = ("*.safetensors", "*.safetensors.index.json", "*.bin", "*.bin.index.json")
_TEXTS = (
    *("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"),
    "tokenizer.model",
)


def is_gguf(path: Path) -> bool:
    return path.suffix.lower() == ".gguf"


def locate(model: str, token: str | None = None) -> Path:
    """The folder of a model, or its GGUF file. What only the hub has is fetched, once, into the hub's own cache.

    BitnetError says what is missing and what to do.
    """
    path = Path(model).expanduser()
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise BitnetError(f"{path} holds no model (no config.json); correct TEACHER_MODEL or HF_MODEL.")
        return path
    if path.is_file() and is_gguf(path):
        return path
    if path.exists() or not _HUB_NAME.fullmatch(model):
        raise BitnetError(
            f"{model} is no model: give a folder with config.json, weights and tokenizer.json, a .gguf file, or a "
            "name on the hub in TEACHER_MODEL or HF_MODEL."
        )
    return _fetch(model, token, (*_TEXTS, *_WEIGHTS))


def origin(model: str) -> str:
    """Says which weights and which tokenizer a model is of: the hub's revision, or a hash of the files' contents."""
    path = Path(model).expanduser()
    if path.is_dir() or path.is_file():
        return f"files:{_content_hash(locate(model))}"
    # The folder of a snapshot has the revision's name. The configuration alone is enough to know it.
    return f"hub:{_fetch(model, None, ('config.json',)).name}"


def _fetch(name: str, token: str | None, patterns: tuple[str, ...]) -> Path:
    import huggingface_hub
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    try:
        return Path(huggingface_hub.snapshot_download(name, token=token, allow_patterns=list(patterns)))
    except GatedRepoError as error:
        raise BitnetError(
            f"The model {name} asks for consent on the hub: accept its terms there and set HF_TOKEN "
            "(`bitnet keys set HF_TOKEN`)."
        ) from error
    except RepositoryNotFoundError as error:
        raise BitnetError(
            f"The hub knows no model {name}, or hides it; correct TEACHER_MODEL or HF_MODEL, or set HF_TOKEN."
        ) from error
    except Exception as error:
        # No network, a full disk, a bad proxy: the library raises errors of many families.
        raise BitnetError(
            f"The model {name} can't be fetched from the hub ({type(error).__name__}); go online, or name a folder "
            "with its files in TEACHER_MODEL."
        ) from error


def _content_hash(path: Path) -> str:
    parts = [path] if is_gguf(path) else [found for pattern in _WEIGHTS for found in sorted(path.glob(pattern))]
    folder = path.parent if is_gguf(path) else path
    parts += [folder / name for name in _TEXTS if (folder / name).is_file()]
    stats = [(part, part.stat()) for part in parts]
    return _hashed(tuple((str(part), stat.st_size, stat.st_mtime_ns) for part, stat in stats))


@functools.cache
def _hashed(parts: tuple[tuple[str, int, int], ...]) -> str:
    """Of names, sizes and contents; read again only when a file was touched."""
    told = [[Path(part).name, size, files.sha256_file(Path(part))] for part, size, _ in parts]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()
