"""What an experiment has exported: the files of its `exports/`, their names, and the lines that run them.

An export says of itself which checkpoint it was made from; only `bitnet verify-export` can say whether it is the
student.
"""

import functools
import json
import shlex
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bitnet_core.files.regular import open_regular, read_bounded

FOLDER = "exports"
GGUF, HF = "gguf", "hf"
MARK = "bitnet_core"
"""In an exported `config.json` the key, in a GGUF the first word of the keys, with what is kept of the checkpoint."""
_HF_ENDING, _GGUF_ENDING, _HF_CONFIG, _HF_WEIGHTS = "-hf", ".gguf", "config.json", "model.safetensors"
_STEP, _SHA256 = "step", "checkpoint_sha256"
_ANY_ARCHITECTURE = b"general.architecture"
_ARCHITECTURE = _ANY_ARCHITECTURE + struct.pack("<IQ", 8, 6) + b"bitnet"
_BEGINNING, _MOST_HEAD, _MOST_CONFIG = 1 << 16, 1 << 24, 1 << 20
"""Bytes. The keys are in the beginning; in files of earlier versions the vocabulary stands before them."""
_MOST = 1000
_ASKED = [{"role": "user", "content": "What is an apple?"}]
_ASKED_TOKENS = 64
INSTALL_TRANSFORMERS = "pip install 'transformers[serving]'"
"""What to type on another machine to have what runs a folder of transformers."""


@dataclass(frozen=True)
class Exported:
    """One export of the checkpoint of `step`, whose file has the hash `sha256`; `kind` is `gguf` or `hf`."""

    path: Path
    kind: str
    step: int
    sha256: str
    bytes: int
    written: float


def file_name(experiment: str, step: int, kind: str, type_name: str) -> str:
    """The name of an export: `demo-step200-TQ2_0.gguf`, `demo-step200-hf`."""
    return f"{experiment}-step{step}" + (_HF_ENDING if kind == HF else f"-{type_name}{_GGUF_ENDING}")


def default_path(root: Path, experiment: str, step: int, kind: str, type_name: str = "") -> Path:
    """Where `bitnet export` writes unless it is told another place."""
    return root / FOLDER / file_name(experiment, step, kind, type_name)


def of(root: Path, damaged: dict[Path, str] | None = None) -> tuple[Exported, ...]:
    """The exports of an experiment, the newest first; those in other places are not known. OSError as `Path.stat`.

    Why an export can't be used goes into `damaged`; what another program wrote is none.
    """
    found = sorted(
        _found(root / FOLDER, {} if damaged is None else damaged), key=lambda one: one.written, reverse=True
    )
    return tuple(found)


def unusable_words(path: Path, why: str) -> str:
    """A sentence about an export that can't be used, and the fix."""
    return f"The export {path.name} can't be used ({why}); move it away, and export it again."


def _found(folder: Path, damaged: dict[Path, str]) -> Iterator[Exported]:
    for number, path in enumerate(folder.iterdir() if folder.is_dir() else ()):
        if number == _MOST:
            return
        if path.name.startswith("."):  # not complete yet
            continue
        if path.suffix == _GGUF_ENDING and path.is_file():
            kind, says, files = GGUF, path, [path]
        elif path.is_dir() and any((path / name).is_file() for name in (_HF_CONFIG, _HF_WEIGHTS)):
            kind, says, files = HF, path / _HF_CONFIG, [one for one in path.iterdir() if one.is_file()]
        else:
            continue
        try:
            status = says.stat()
            origin = _origin(kind, says, status.st_size, status.st_mtime_ns)
        except FileNotFoundError:
            damaged[path] = f"{says.name} is missing"
        except _Damaged as error:
            damaged[path] = str(error)
        else:
            if origin is not None:  # else it is another program's
                sizes = sum(one.stat().st_size for one in files)
                yield Exported(path, kind, *origin, sizes, path.stat().st_mtime)


class _Damaged(Exception):
    """An export does not say what it was made from; the words follow its name."""


@functools.lru_cache(maxsize=_MOST)
def _origin(kind: str, path: Path, _bytes: int, _changed: int) -> tuple[int, str] | None:
    """The step and the hash of the checkpoint that an export says it was made from; None if it is not an export."""
    try:
        found = _in_config(path) if kind == HF else _in_gguf(path)
    except OSError as error:
        raise _Damaged(f"{path.name} can't be read ({error.strerror or error})") from error
    except (ValueError, RecursionError, struct.error) as error:
        raise _Damaged(f"{path.name} is damaged") from error
    if found is None:
        return None
    step, sha256 = found
    if type(step) is int and step >= 0 and isinstance(sha256, str):
        return step, sha256
    raise _Damaged(f"{path.name} does not say which checkpoint it was made from")


def _in_config(path: Path) -> tuple[object, object] | None:
    config = json.loads(read_bounded(path, _MOST_CONFIG))
    if not isinstance(config, dict) or MARK not in config:
        return None
    own = config[MARK]
    return (own.get(_STEP), own.get(_SHA256)) if isinstance(own, dict) else (None, None)


def _in_gguf(path: Path) -> tuple[object, object] | None:
    with open_regular(path) as source:
        head = source.read(_BEGINNING)
        if not head.startswith(b"GGUF") or _ANY_ARCHITECTURE not in head:
            raise ValueError("it is not a GGUF")
        if _ARCHITECTURE not in head:
            return None
        if _key(_STEP) not in head:
            head += source.read(_MOST_HEAD)
    if not any(_key(name) in head for name in (_STEP, _SHA256)):
        return None
    return _number(head, _STEP), _text(head, _SHA256)


def _key(name: str) -> bytes:
    key = f"{MARK}.{name}".encode()
    return struct.pack("<Q", len(key)) + key


def _number(head: bytes, name: str) -> int | None:
    """The value of a key: 32 bits, or 64 if it needs them."""
    at = head.find(_key(name)) + len(_key(name))
    kind, *_ = struct.unpack_from("<I", head, at)
    form = {4: "<I", 10: "<Q"}.get(kind)
    return int(struct.unpack_from(form, head, at + 4)[0]) if form and _key(name) in head else None


def _text(head: bytes, name: str) -> str | None:
    at = head.find(_key(name)) + len(_key(name))
    kind, length = struct.unpack_from("<IQ", head, at)
    known = _key(name) in head and kind == 8 and length <= len(head)
    return head[at + 12 : at + 12 + length].decode() if known else None


def serve_line(kind: str, path: str) -> str:
    """What to type to serve an export with OpenAI's API."""
    return f"bitnet serve {shlex.quote(path)}" if kind == GGUF else f"transformers serve {shlex.quote(path)}"


def ask_line(kind: str, path: str) -> str:
    """What to type to have one prompt answered: by the server of a GGUF file, or in Python from a folder."""
    if kind == GGUF:
        body = json.dumps({"messages": _ASKED, "max_tokens": _ASKED_TOKENS})
        return f"curl http://127.0.0.1:8080/v1/chat/completions -H 'Content-Type: application/json' -d '{body}'"
    return f"python -c {shlex.quote('; '.join(ask_code(path)))}"


def ask_code(path: str) -> tuple[str, ...]:
    """The same as lines of Python, for a folder of transformers. It knows the chat template by itself."""
    return (
        "from transformers import pipeline",
        f'ask = pipeline("text-generation", {json.dumps(path)}, max_new_tokens={_ASKED_TOKENS})',
        f"said = ask({json.dumps(_ASKED)})",
        'print(said[0]["generated_text"][-1]["content"])',
    )


def llamacpp_line(path: str) -> str:
    """What to type to serve a GGUF file with llama.cpp's own server, which has the same address."""
    return f"llama-server -m {shlex.quote(path)}"
