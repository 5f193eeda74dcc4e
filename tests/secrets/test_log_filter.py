"""The filter in front of `output.log`: everything written passes through it, even by a process that dies."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

CANARY = "sk-canary-0123456789"
_HEAD = f"""
import ctypes, faulthandler, os, sys, time
from bitnet_core.secrets import log_filter
from bitnet_core.secrets.redaction import Redactor
finish = log_filter.start(Redactor([{CANARY!r}]))
faulthandler.enable()
"""
_WAYS = {
    "print": f"print('a {CANARY} b')",
    "stderr": f"sys.stderr.write('a {CANARY} b')",
    "descriptor": f"os.write(1, b'a {CANARY} b\\n')",
    "c library": f"ctypes.CDLL(None).dprintf(2, b'a {CANARY} b\\n')",
    "child": f"import subprocess; subprocess.run(['echo', 'a {CANARY} b'])",
    "in pieces": f"[(os.write(1, bytes([byte])), time.sleep(0.002)) for byte in b'a {CANARY} b']",
    "binary": f"os.write(1, b'\\xff\\xfe a {CANARY} b \\xff')",
    "long": f"os.write(1, b'a ' + b'{CANARY} ' * 5000 + b' b\\n')",
}


def _output(code: str, tmp_path: Path) -> tuple[int, bytes]:
    log = tmp_path / "output.log"
    with log.open("ab") as output:
        done = subprocess.run([sys.executable, "-c", _HEAD + code], stdout=output, stderr=output, check=False)
    return done.returncode, log.read_bytes()


@pytest.mark.parametrize("way", _WAYS)
def test_nothing_written_contains_a_key(way: str, tmp_path: Path) -> None:
    code, log = _output(f"{_WAYS[way]}\nfinish()\nos._exit(3)", tmp_path)
    assert code == 3
    assert b"a " in log
    assert b" b" in log
    assert "•••".encode() in log
    assert CANARY.encode() not in log


@pytest.mark.parametrize(
    ("death", "number"), [("os.abort()", signal.SIGABRT), ("os.kill(os.getpid(), 9)", signal.SIGKILL)]
)
def test_the_last_output_of_a_stage_that_dies_is_kept_and_masked(
    death: str, number: signal.Signals, tmp_path: Path
) -> None:
    code, log = _output(f"api_key = {CANARY!r}\nos.write(2, b'last {CANARY} words')\n{death}", tmp_path)
    assert code == -number
    for _ in range(200):
        if b"words" in log and (number == signal.SIGKILL or b"Fatal Python error" in log):
            break
        time.sleep(0.02)
        log = (tmp_path / "output.log").read_bytes()
    assert "last ••• words".encode() in log
    assert (b"Fatal Python error: Aborted" in log) == (number == signal.SIGABRT)
    assert CANARY.encode() not in log


@pytest.mark.parametrize(
    ("key", "pieces", "log"),
    [
        (CANARY, ["a sk-can", "ary-0123456789 b\n"], "a ••• b\n"),
        (CANARY, ["a sk-can", "dle b\n"], "a sk-candle b\n"),
        (CANARY, ["a sk-can\n", "ary-0123456789 b\n"], "a ••• b\n"),
        ("sk/ü-7f3a91c2", ["a sk%2", "F%C3%B", "C-7f3a91c2 b\n"], "a ••• b\n"),
        ("ab\ncd\nefgh\n", ["x ab\n", "cd\n", "efgh y\n"], "x ••• y\n"),
    ],
)
def test_a_key_with_a_pause_or_a_line_end_in_it_is_masked(
    key: str, pieces: list[str], log: str, tmp_path: Path
) -> None:
    """The writer waits until the filter has looked at each piece and pauses."""
    code = f"""
import os, sys, time
from bitnet_core.secrets import log_filter
from bitnet_core.secrets.redaction import Redactor
log_filter._IDLE_SECONDS = 0.01
passed_in, passed_out = os.pipe()
plain = log_filter._ready_to_write
def watched(text, redact):
    if text: os.write(passed_out, b".")
    return plain(text, redact)
log_filter._ready_to_write = watched
finish = log_filter.start(Redactor([{key!r}]))
for piece in {pieces!r}:
    os.write(1, piece.encode())
    os.read(passed_in, 1)  # the filter has looked at this piece
finish()
os._exit(0)
"""
    output = tmp_path / "output.log"
    with output.open("ab") as sink:
        subprocess.run([sys.executable, "-c", code], stdout=sink, stderr=sink, check=True)
    assert output.read_text() == log


def test_a_character_written_in_two_parts_is_kept(tmp_path: Path) -> None:
    code, log = _output(
        "log_filter._IDLE_SECONDS = 0.01\n"
        "os.write(1, 'a ü'.encode()[:-1]); time.sleep(0.1); os.write(1, 'ü\\n'.encode()[1:])\nfinish()\nos._exit(0)",
        tmp_path,
    )
    assert (code, log.decode()) == (0, "a ü\n")


def test_a_stage_does_not_wait_for_a_program_it_has_started(tmp_path: Path) -> None:
    """A program that it started may keep the output open; what that program writes later is masked too."""
    code, log = _output(
        "import subprocess\n"
        "log_filter._END_SECONDS = 0.1\n"
        f"subprocess.Popen(['sh', '-c', 'sleep 0.6; echo late {CANARY} word'])\n"
        "print('early')\nfinish()\nos._exit(0)",
        tmp_path,
    )
    assert code == 0
    assert log == b"early\n"
    for _ in range(200):
        if b"word" in log:
            break
        time.sleep(0.02)
        log = (tmp_path / "output.log").read_bytes()
    assert log.decode() == "early\nlate ••• word\n"
