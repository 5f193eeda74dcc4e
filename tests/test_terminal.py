"""What a stream is sent: safe signs, plain signs where its encoding lacks them, one sentence when it is closed."""

import errno
import io
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitnet_core.cli.command import json_line
from bitnet_core.terminal import OutputClosed, SafeStream, safe, safe_streams
from bitnet_core.text import STATES, UNKNOWN, printable

_ENCODINGS = ["ascii", "latin-1", "cp1252", "cp437", "koi8-r", "shift_jis", "utf-8", "utf-16"]
_ANY = st.text(st.characters(exclude_categories=[]))


def _written(text: str, encoding: str) -> str:
    raw = io.BytesIO()
    stream = SafeStream(io.TextIOWrapper(raw, encoding, newline="\n"))
    assert stream.write(text) == len(text)
    stream.flush()
    return raw.getvalue().decode(encoding)


def _holds(char: str, encoding: str) -> bool:
    try:
        char.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True


@pytest.mark.parametrize(
    ("encoding", "text", "sent"),
    [
        ("ascii", "✓ done", "+ done"),
        ("ascii", "A8→A4", "A8->A4"),
        ("ascii", "── runs ──", "-- runs --"),
        ("ascii", "–", "-"),
        ("ascii", "starting…", "starting..."),
        ("ascii", "naïve 中文", "na?ve ??"),
        ("ascii", "a\x1b[2J", "a.[2J"),
        ("latin-1", "naïve × · ✗", "naïve × · x"),
        ("latin-1", "\x9b31m", "·31m"),
        ("cp1252", "– … ▸ •", "– … > •"),
        ("cp437", "─ │ ✓ ≤", "─ │ + ≤"),
        ("utf-8", "✓ → 中文", "✓ → 中文"),
        ("utf-8", "all:\n\tmake \x1b\t.\r\n", "all:\n\tmake ·\t.\n"),
        ("utf-8", "\udcff\u202e", "··"),
    ],
)
def test_a_sign_that_the_encoding_lacks_is_a_plain_one(encoding: str, text: str, sent: str) -> None:
    assert _written(text, encoding) == sent


@pytest.mark.parametrize("encoding", _ENCODINGS)
@given(text=_ANY)
def test_any_text_arrives_in_any_encoding(encoding: str, text: str) -> None:
    """A slow twin: sign by sign, what the encoding holds stays."""
    sent = _written(text, encoding)
    safe_text = "".join(char if char == "\t" else printable(char) for char in text.replace("\r\n", "\n"))
    if all(_holds(char, encoding) for char in safe_text):
        assert sent == safe_text.encode(encoding).decode(encoding)
    kept = [char for char in safe_text if _holds(char, encoding)]
    rest = iter(sent)
    assert all(char.encode(encoding).decode(encoding) in rest for char in kept), "kept, and in order"
    assert all(char in "\n\t" or char.isprintable() for char in sent)


def test_states_differ_in_plain_signs_and_take_one_cell() -> None:
    signs = {state: _written(glyph, "ascii") for state, (glyph, _) in STATES.items() if state != "succeeded"}
    assert len(set(signs.values())) == len(signs)
    assert all(len(sign) == 1 and sign != "?" for sign in signs.values())
    assert _written(UNKNOWN, "ascii") == "-"


def test_a_redrawn_line_is_safe_too() -> None:
    raw = io.BytesIO()
    stream = SafeStream(io.TextIOWrapper(raw, "latin-1"))
    stream.redraw("3/9 \x1b[2J→")
    assert raw.getvalue() == b"\r\x1b[K3/9 \xb7[2J->"


@given(st.recursive(_ANY | st.floats() | st.none(), lambda inner: st.dictionaries(_ANY, inner), max_leaves=5), _ANY)
@pytest.mark.parametrize("readable", [True, False])
def test_json_is_strict_exact_and_printable(readable: bool, value: object, text: str) -> None:
    line = json_line({"value": value, "text": text}, readable=readable)
    assert line.isprintable()
    assert readable or line.isascii()
    parsed = json.loads(line, parse_constant=lambda name: pytest.fail(name))
    assert parsed["text"] == text
    if isinstance(value, str):
        assert parsed["value"] == value


class _Full(io.StringIO):
    """Fails like a full disk, at once or when it is flushed."""

    def __init__(self, fails_at: Sequence[str]) -> None:
        super().__init__()
        self._fails_at = fails_at

    def write(self, text: str) -> int:
        if "write" in self._fails_at:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().write(text)

    def flush(self) -> None:
        if "flush" in self._fails_at:
            raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))


def test_a_closed_stdout_is_said_once_and_a_closed_stderr_never() -> None:
    stdout = SafeStream(_Full(["write", "flush"]))
    with pytest.raises(OutputClosed, match=r"stdout can't be written \(No space left on device\); the rest"):
        stdout.write("hello")
    stdout.write("more")
    stdout.flush()
    with pytest.raises(OutputClosed, match="Broken pipe"):
        SafeStream(_Full(["flush"])).flush()
    stderr = SafeStream(_Full(["write", "flush"]), must_arrive=False)
    stderr.writelines(["a", "b"])
    stderr.flush()


def test_every_way_of_writing_is_covered_and_undone(capsys: pytest.CaptureFixture[str]) -> None:
    before = sys.stdout, sys.stderr
    with safe_streams():
        print("\x1b[2J", file=sys.stdout)  # noqa: T201
        sys.stdout.writelines(["\x9b", "a\n"])
        sys.stderr.write("\u202e\n")
        assert safe(sys.stdout) is sys.stdout  # type: ignore[comparison-overlap]
        with safe_streams():
            sys.stdout.write("\x07\n")
    assert (sys.stdout, sys.stderr) == before
    said = capsys.readouterr()
    assert said.out == "·[2J\n·a\n·\n"
    assert said.err == "·\n"


@pytest.mark.parametrize("codec", ["idna", "undefined"])
def test_a_codec_that_writes_no_text_is_not_used(codec: str, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, codec))
    with safe_streams():
        sys.stdout.write("✓ done\n")
        sys.stdout.flush()
    assert raw.getvalue() == "✓ done\n".encode()


_COPY = """
import sys
from bitnet_core.terminal import safe_streams
with safe_streams():
    for line in [*sys.stdin.readline().splitlines(), *sys.stdin.read().splitlines()]:
        sys.{sink}.write(line + "\\n")
"""


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("sink", ["stdout", "stderr"])
def test_a_pipe_that_another_program_made_non_blocking_loses_nothing(sink: str, unbuffered: str) -> None:
    sent = b"".join(b"%06d\n" % number for number in range(30_000))  # more than a pipe holds
    (asked, question), (answer, told) = os.pipe(), os.pipe()
    os.set_blocking(asked, False)
    os.set_blocking(told, False)
    with subprocess.Popen(
        [sys.executable, "-c", _COPY.format(sink=sink)],
        stdin=asked,
        env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
        **{sink: told},  # type: ignore[call-overload] # mypy: any of the arguments
    ) as copying:
        os.close(asked)
        with os.fdopen(question, "wb") as typed:
            typed.write(sent)
        while copying.poll() is None and select.select([], [told], [], 0)[1]:
            time.sleep(0.01)  # until it has filled the pipe
        os.close(told)
        with os.fdopen(answer, "rb") as got:
            assert got.read() == sent
