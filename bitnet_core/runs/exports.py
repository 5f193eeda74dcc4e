"""What an experiment has exported: the files of its `exports/`, their names, and the lines that run them.

Knows nothing of what is in a file: only `bitnet verify-export` can say whether it is the student.
"""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

FOLDER = "exports"
GGUF, HF = "gguf", "hf"
_HF_ENDING, _GGUF_ENDING, _HF_CONFIG = "-hf", ".gguf", "config.json"
_STEP = re.compile(r"-step(\d{1,19})-[^-]+$")
_MOST = 1000


@dataclass(frozen=True)
class Exported:
    """One export. `step` is None where the name doesn't tell it; `kind` is `gguf` or `hf`."""

    path: Path
    kind: str
    step: int | None
    bytes: int
    written: float


def file_name(experiment: str, step: int, kind: str, type_name: str) -> str:
    """The name of an export: `demo-step200-TQ2_0.gguf`, `demo-step200-hf`."""
    return f"{experiment}-step{step}" + (_HF_ENDING if kind == HF else f"-{type_name}{_GGUF_ENDING}")


def default_path(root: Path, experiment: str, step: int, kind: str, type_name: str = "") -> Path:
    """Where `bitnet export` writes unless it is told another place."""
    return root / FOLDER / file_name(experiment, step, kind, type_name)


def of(root: Path) -> tuple[Exported, ...]:
    """The exports of an experiment, the newest first; those in other places are not known. OSError as `Path.stat`."""
    found = sorted(_found(root / FOLDER), key=lambda one: one.written, reverse=True)
    return tuple(found)


def _found(folder: Path) -> Iterator[Exported]:
    for number, path in enumerate(folder.iterdir() if folder.is_dir() else ()):
        if number == _MOST:
            return
        if path.name.startswith("."):  # not complete yet
            continue
        step = _STEP.search(path.name)
        if path.suffix == _GGUF_ENDING and path.is_file():
            kind, files = GGUF, [path]
        elif path.name.endswith(_HF_ENDING) and (path / _HF_CONFIG).is_file():
            kind, files = HF, [one for one in path.iterdir() if one.is_file()]
        else:
            continue
        sizes = sum(one.stat().st_size for one in files)
        yield Exported(path, kind, int(step[1]) if step else None, sizes, path.stat().st_mtime)


def serve_line(kind: str, path: str) -> str:
    """What to type to serve an export with OpenAI's API."""
    return f"bitnet serve {shlex.quote(path)}" if kind == GGUF else f"transformers serve {shlex.quote(path)}"


def other_line(kind: str, path: str) -> tuple[str, str]:
    """What else runs it, and what to type there: llama.cpp's own server, or Python."""
    if kind == GGUF:
        return "llama.cpp", f"llama-server -m {shlex.quote(path)}"
    return "Python", f'AutoModelForCausalLM.from_pretrained({path!r}, dtype="float32")'
