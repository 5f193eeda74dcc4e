"""What is piped into a command, or given after it, is bounded and is text, in every locale."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitnet_core.cli import piped
from bitnet_core.cli.answering import exact, request_of
from bitnet_core.cli.main import main
from bitnet_core.cli.piped import piped_lines
from bitnet_core.errors import UsageError
from bitnet_core.text import is_utf8
from tests.fuzzing import fuzz


@pytest.mark.parametrize("command", [["chat"], ["generate"], ["keys", "set", "OPENAI_API_KEY"]])
def test_stdin_without_an_end_is_refused(
    command: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(piped, "MOST_CHARS", 1000)
    endless = io.StringIO("x" * 5000)
    monkeypatch.setattr(sys, "stdin", endless)
    assert main(command) == 2
    assert "more than 1,000 characters" in capsys.readouterr().err
    assert endless.tell() <= 1001


@pytest.mark.parametrize("command", ["chat", "generate"])
@pytest.mark.parametrize("as_argument", [True, False])
def test_a_question_that_is_not_text_is_called_that(
    command: str, as_argument: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"wh\xffo"), encoding="utf-8", errors="strict"))
    assert main([command, *(["wh\udcffo"] if as_argument else [])]) == 2
    assert "is not UTF-8 text" in capsys.readouterr().err


@pytest.mark.parametrize("codec", ["utf-16", "utf-32", "utf-7", "utf-8"])
def test_stdin_in_another_encoding_than_was_told_is_called_that(
    codec: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"why\xe9\xff+?"), codec))
    assert main(["chat"]) == 2
    said = capsys.readouterr().err
    assert f"stdin is not {codec} text; save it as that" in said or "is not UTF-8 text" in said


def test_each_line_is_read_or_refused_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(piped, "MOST_CHARS", 10)
    lines = ["a", "", " ", "y" * 9, "z" * 10, "z" * 25, "\udcff", "é", "the last"]
    found = [
        one.args[0][:17] if isinstance(one, UsageError) else one
        for one in piped_lines(io.StringIO("\n".join(lines), newline="\n"))
    ]
    long, broken = "A line has more t", "A line is not UTF"
    assert found == ["a\n", "y" * 9 + "\n", long, long, broken, "é\n", "the last"]


@pytest.mark.parametrize("locale", ["C", "C.UTF-8"])
def test_a_bad_byte_does_not_end_the_requests_before_it(locale: str, tmp_path: Path) -> None:
    requests = b'{"ask": "list"}\n\xff\n{"ask": "rejects"}\n'
    done = subprocess.run(
        [sys.executable, "-m", "bitnet_core", "traces", "browse", "--root", str(tmp_path)],
        input=requests,
        capture_output=True,
        env={**os.environ, "LC_ALL": locale, "PYTHONIOENCODING": "utf-8:strict"},
        check=False,
    )
    assert (done.returncode, done.stdout.count(b"\n"), done.stderr) == (0, 3, b"")
    assert b"not UTF-8" in done.stdout.splitlines()[1]


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["role", "content", "x"]), inner),
    max_leaves=6,
)
_FIELDS = ("id", "messages", "max_tokens", "temperature", "seed", "top", "bits", "follow", "stop")
_GOOD = {"id": 1, "messages": [{"role": "user", "content": "x"}], "max_tokens": 1}


@fuzz(200)
@given(st.dictionaries(st.sampled_from(_FIELDS), _JSON, max_size=3))
def test_any_fields_are_a_request_that_can_be_answered_or_one_sentence(odd: dict[str, object]) -> None:
    try:
        found = request_of(json.loads(json.dumps({**_GOOD, **odd})))
    except UsageError as error:
        assert str(error).endswith(".")
        assert str(error).isprintable()
        return
    assert all(is_utf8(text) for one in found.messages for text in one.values())
    assert 0 <= found.temperature <= 100
    assert exact(found.follow) == odd.get("follow", "")


@fuzz(200)
@given(st.lists(st.text(st.sampled_from("ab \udcff\r\té"), max_size=12)), st.integers(2, 8))
def test_lines_are_those_of_a_slow_twin(lines: list[str], most: int) -> None:
    text = "\n".join(lines)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(piped, "MOST_CHARS", most)
        found = [one for one in piped_lines(io.StringIO(text, newline="\n")) if isinstance(one, str)]
    whole = [line + "\n" for line in lines[:-1]] + [line for line in lines[-1:] if line]
    fits = [line for line in whole if len(line) < most or (len(line) == most and line.endswith("\n"))]
    assert found == [line for line in fits if "\udcff" not in line and line.strip()]
