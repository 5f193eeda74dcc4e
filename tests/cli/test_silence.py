"""A command that writes nothing for seconds says on stderr what it does, once."""

import argparse
import sys
from collections.abc import Callable
from typing import Any, ClassVar

import pytest

from bitnet_core.cli import main as cli
from bitnet_core.cli import settings, silence
from bitnet_core.cli.silence import doing


class _Timer:
    """Its time is up when `pass_seconds` is called."""

    running: ClassVar[list["_Timer"]] = []

    def __init__(self, _seconds: float, call: Callable[..., None], arguments: tuple[Any, ...]) -> None:
        self.call, self.arguments = call, arguments

    def start(self) -> None:
        self.running.append(self)

    def cancel(self) -> None:
        if self in self.running:
            self.running.remove(self)


def pass_seconds() -> None:
    while _Timer.running:
        timer = _Timer.running.pop()
        timer.call(*timer.arguments)


def name_two_things() -> None:
    doing("reading")
    doing("timing steps")
    pass_seconds()
    doing("timing steps")
    pass_seconds()


def write_a_line() -> None:
    sys.stdout.write("a line\n")
    pass_seconds()


@pytest.mark.parametrize(
    ("work", "options", "said"),
    [
        (pass_seconds, (), "bitnet: `bitnet init` is at work…\n"),
        (name_two_things, (), "bitnet: timing steps…\n"),
        (write_a_line, (), ""),
        (lambda: None, (), ""),
        (name_two_things, ("--json",), ""),
    ],
)
def test_what_a_silent_command_does_is_said_once(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    work: Callable[[], None],
    options: tuple[str, ...],
    said: str,
) -> None:
    def handler(_: argparse.Namespace) -> int:
        work()
        return 0

    monkeypatch.setattr(silence.threading, "Timer", _Timer)
    monkeypatch.setattr(settings, "_init", handler)
    assert cli.main([*options, "init"]) == 0
    pass_seconds()
    assert capsys.readouterr().err == said
