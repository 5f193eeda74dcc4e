"""Text as a hostile teacher, server, file or folder says it; an experiment full of it; a terminal to show it on."""

import contextlib
import io
import json
import os
import pty
import sys
import threading
import tty
from collections.abc import Iterator
from pathlib import Path

import pytest

from bitnet_core.runs.events import KINDS
from bitnet_core.terminal import _REDRAW

SIGNS = {
    "CSI": "\x1b[31m\x1b[2J",
    "clipboard": "\x1b]52;c;cHduZWQ=\x07",
    "title": "\x1b]0;owned\x1b\\",
    "bell": "\x07\x08\x0d",
    "C1": "\x9b31m\x9d0;owned\x9c",
    "bidi": "\u202egnp.\u2066x\u2069",
    "surrogates": "\ud83d \udcff",
    "invisible": "\u200b\ufeff\u2028\x85\x7f",
}
MARKUP = "[@click=app.quit]x[/] [red] [bold link=evil]y"
TEXT = f"S {MARKUP} " + " ".join(SIGNS.values()) + " E"
UTF8_TEXT = TEXT.encode("utf-8", "ignore").decode().replace("\r", "")
"""The text as a file or a reply in UTF-8 can hold it."""
FOLDER = "[red]" + "".join(SIGNS[name] for name in ("CSI", "clipboard", "C1", "bidi")) + "\udcff\n✓ forged"
"""A name that a folder can have: no slash, and a byte that is not UTF-8."""


def assert_harmless(text: str) -> None:
    """Nothing in it but signs that show themselves, and ends of lines."""
    bad = sorted({char for char in text if char != "\n" and not char.isprintable()})
    assert not bad, f"{bad} in {text!r}"


def experiment(home: Path, name: str = FOLDER) -> Path:
    """An experiment whose folder, settings, runs and events say `TEXT`, or what JSON can hold of it."""
    root = home / name
    for stage, state in (("train", "failed"), ("collect", "succeeded"), (f"{stage_of(TEXT)}", "failed")):
        run = root / "logs" / f"{stage}-20260101T000000Z-aaaa"
        run.mkdir(parents=True)
        record = {
            "id": run.name, "stage": stage, "state": state, "error": UTF8_TEXT, "created": 1.0, "started": 1.0,
            "ended": 2.0, "exit_code": 1, "settings": {"KD_TEACHER_MODEL": UTF8_TEXT}, "origins": {},
            "argv": [UTF8_TEXT], "host": UTF8_TEXT, "boot_id": UTF8_TEXT, "fingerprint": UTF8_TEXT,
            "summary": {"qei": UTF8_TEXT},
        }  # fmt: skip
        (run / "run.json").write_text(json.dumps(record))
        (run / "events.jsonl").write_text("".join(json.dumps(fields) + "\n" for fields in _events()))
    (root / ".env").write_text(f"VLLM_MODEL='{UTF8_TEXT}'\nWANDB_PROJECT='{UTF8_TEXT}'\n", "utf-8")
    return root


def stage_of(text: str) -> str:
    """A stage that the program does not have, as the name of a folder."""
    return "stage" + text.replace("/", "").replace("\n", "").encode("utf-8", "ignore").decode()[:60]


def _events() -> Iterator[dict[str, object]]:
    for seq, kind in enumerate(KINDS):
        fields: dict[str, object] = {"kind": kind.__struct_config__.tag, "seq": seq, "t": 1.0}
        for name, hint in kind.__annotations__.items():
            fields[name] = _value(str(hint))
        yield fields


def _value(hint: str) -> object:
    if "dict[str, int]" in hint:
        return {UTF8_TEXT: 1}
    if "dict" in hint:
        return {UTF8_TEXT: UTF8_TEXT}
    if "list[list" in hint:
        return [[UTF8_TEXT, UTF8_TEXT], [1, UTF8_TEXT]]
    if "list" in hint:
        return [UTF8_TEXT, UTF8_TEXT]
    return 1 if "int" in hint or "float" in hint else UTF8_TEXT


@contextlib.contextmanager
def terminal(monkeypatch: pytest.MonkeyPatch, encoding: str = "utf-8") -> Iterator[io.BytesIO]:
    """Stdout and stderr are a real terminal; what it was sent is in the value, complete when the block ends."""
    ours, theirs = pty.openpty()
    tty.setraw(theirs)
    got = io.BytesIO()

    def read() -> None:
        with contextlib.suppress(OSError):  # a closed terminal
            while data := os.read(ours, 1 << 16):
                got.write(data)

    reader = threading.Thread(target=read)
    reader.start()
    with open(theirs, "w", encoding=encoding) as stream, monkeypatch.context() as patch:  # noqa: PTH123
        patch.setattr(sys, "stdout", stream)
        patch.setattr(sys, "stderr", stream)
        yield got
    reader.join()
    os.close(ours)


def shown(got: io.BytesIO, encoding: str = "utf-8") -> str:
    """What was sent, without what redraws a line of progress."""
    return got.getvalue().replace(_REDRAW.encode(), b"").decode(encoding)
