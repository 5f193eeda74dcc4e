"""Stands for `bitnet export` in tests of the app."""

import threading
from pathlib import Path

import pytest

from bitnet_core.errors import BitnetError
from bitnet_core.export.gguf_file import write_gguf
from bitnet_tui.services.exporting import Export


class Exporting:
    """Stands for `bitnet export`, which writes an export when it `may_write`, and ends when it `may_end`."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch, problem: str = "") -> None:
        self.made = root / "exports" / "one-step200-TQ2_0.gguf"
        self.arguments: list[list[str]] = []
        self.may_write, self.may_end = threading.Event(), threading.Event()

        def run(export: Export) -> dict[str, object]:
            self.arguments.append(export.arguments[2:])
            self.may_write.wait(60)
            if problem:
                raise BitnetError(problem)
            keys = {"general.architecture": "bitnet", "bitnet_core.step": 200, "bitnet_core.checkpoint_sha256": "0"}
            self.made.parent.mkdir(exist_ok=True)
            write_gguf(self.made, keys, [])
            self.may_end.wait(60)
            return {"exported": [str(self.made)], "verified": True}

        monkeypatch.setattr(Export, "run", run)

    def end(self) -> None:
        self.may_write.set()
        self.may_end.set()
