"""What the tests of `bitnet store` and `bitnet open` share: files, answers, and what a hostile target publishes."""

import json
from pathlib import Path
from typing import Any

import pytest

from bitnet_core.cli.main import main
from bitnet_core.storage import manifest as manifests
from bitnet_core.storage.layout import Stored, sha256
from bitnet_core.storage.manifest import Manifest

CANARY = "sk-canary-4f1b9d27c0a845e3"
PART = 33 << 20
"""A file of this size is stored in parts."""


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def tree(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    """Everything below a folder: its inode, its time of change, its content."""
    return {
        str(path.relative_to(folder)): (path.stat().st_ino, path.stat().st_mtime_ns,
                                        path.read_bytes() if path.is_file() else b"")
        for path in folder.rglob("*")
    }  # fmt: skip


def stored(target: Path) -> set[str]:
    return {str(path.relative_to(target)) for path in target.rglob("*") if path.is_file()}


def answer(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> dict[str, Any]:
    """The last line that a command writes with --json."""
    capsys.readouterr()
    assert main([*arguments, "--json"]) == code
    found: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])
    return found


def complaint(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 1) -> str:
    capsys.readouterr()
    assert main(list(arguments)) == code
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1, captured.err
    return captured.err


def listed(capsys: pytest.CaptureFixture[str], exp: Path, *arguments: str) -> list[dict[str, Any]]:
    capsys.readouterr()
    assert main(["--root", str(exp), "store", "ls", *arguments, "--json"]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def publish(target: Path, files: list[Stored], counter: int = 7, **fields: Any) -> None:
    made = Manifest(experiment="ab" * 16, name="exp", counter=counter, files=files, **fields)
    path = target / "exp" / manifests.key_of(made)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(made.encode())


def put(target: Path, name: str, text: str) -> Stored:
    """A stored file; its object is there if the name is one that a folder can hold safely."""
    data = text.encode()
    if name and ".." not in name and not name.startswith("/"):
        (target / "exp" / name).parent.mkdir(parents=True, exist_ok=True)
        (target / "exp" / name).write_bytes(data)
    return Stored(name, len(data), sha256(data), "report")
