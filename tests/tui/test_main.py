"""`bitnet-tui` outside its event loop: how a bug and a wrong option are reported, without keys."""

from pathlib import Path

import pytest

from bitnet_core.errors import UsageError
from bitnet_core.secrets import known
from bitnet_tui import start as started

KEY = "unlike a key, but one"


def test_a_bug_before_or_after_the_app_is_a_report_without_keys(
    isolated: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(_: object) -> int:
        known.remember([KEY])
        raise ZeroDivisionError(KEY)

    monkeypatch.setattr(started, "_run", broken)
    assert started.main([]) == 1
    said = capsys.readouterr()
    assert said.err.startswith("bitnet-tui: bitnet-tui has a bug (ZeroDivisionError)")
    assert said.err.count("\n") == 1
    (report,) = (isolated / ".local" / "state" / "bitnet-tui").glob("crash-*.log")
    assert "ZeroDivisionError: •••" in report.read_text()
    assert KEY not in report.read_text() + said.err + said.out


def test_a_mistake_is_a_sentence_without_keys(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(_: object) -> int:
        known.remember([KEY])
        raise UsageError(f"{KEY} is not a folder.")

    monkeypatch.setattr(started, "_run", refused)
    assert started.main([]) == 2
    assert capsys.readouterr().err == "bitnet-tui: ••• is not a folder.\n"
