"""`bitnet providers`, `bitnet providers probe` and `bitnet chat`, against a server on the loopback."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bitnet_core.cli.main import main
from bitnet_core.teachers.embedded.files import EmbeddedFiles
from bitnet_core.teachers.embedded.server import EmbeddedServer
from bitnet_core.teachers.profiles import PROVIDERS
from tests.teachers.server import Asked, Canned, ChatServer, chat_body, entry

KEY = "gsk-very-secret-1234567890"


def sse(*events: Any) -> Canned:
    body = "".join(f"data: {json.dumps(event)}\n\n" for event in events) + "data: [DONE]\n\n"
    return Canned(body.encode(), headers={"Content-Type": "text/event-stream"})


def piece(text: str, **more: Any) -> dict[str, Any]:
    return {"choices": [{"delta": {"content": text}, "finish_reason": None, **more}]}


USAGE = {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}}
HELLO = sse(piece("Hel"), piece("lo!"), piece("", finish_reason="stop"), USAGE)


def settings(**values: str) -> list[str]:
    return [part for name, value in values.items() for part in ("--set", f"{name}={value}")]


def test_the_table_has_every_provider_and_the_address_that_is_set(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--json", "providers", *settings(CUSTOM_BASE_URL="http://my.own/v1", PROVIDER="custom")]) == 0
    listed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [one["name"] for one in listed] == list(PROVIDERS)
    by_name = {one["name"]: one for one in listed}
    assert by_name["custom"]["base_url"] == "http://my.own/v1"
    assert by_name["openai"]["base_url"] == "https://api.openai.com/v1"
    assert by_name["embedded"]["base_url"] == by_name["hf"]["base_url"] == ""
    assert [one["name"] for one in listed if one["chosen"]] == ["custom"]
    assert main(["providers"]) == 0
    assert "◉ embedded" in capsys.readouterr().out


def answer(_number: int, asked: Asked) -> Canned:
    if asked.path.endswith("/models"):
        return Canned({"data": [{"id": "m"}]})
    tops = [entry(f"t{place}", -0.5 - place, index=place) for place in range(asked.body.get("top_logprobs") or 0)]
    return Canned(chat_body("t0", [{**tops[0], "top_logprobs": tops}] if tops else None))


def test_a_probe_shows_what_it_found(capsys: pytest.CaptureFixture[str]) -> None:
    with ChatServer(answer) as server:
        arguments = ["providers", "probe", "vllm", "--model", "m", *settings(VLLM_BASE_URL=server.base_url)]
        assert main(["--json", *arguments]) == 0
        report = json.loads(capsys.readouterr().out)
        assert main(arguments) == 0
    assert (report["logprobs"], report["largest_k"], report["largest_k_capped"]) == (True, 100, True)
    assert (report["model_listed"], report["logprob_mode"], report["problem"]) == (True, "raw", None)
    shown = capsys.readouterr().out
    assert "100 or more" in shown
    assert "upstream" not in shown
    assert "$0.00 in, $0.00 out" in shown


def test_a_probe_without_a_key_is_a_report_with_the_problem(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--json", "providers", "probe", "groq", "--model", "m"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert (report["provider"], report["model"], report["reachable"]) == ("groq", "m", None)
    assert "bitnet keys set GROQ_API_KEY" in report["problem"]
    assert main(["providers", "probe", "groq", "--model", "m"]) == 1
    assert "! There is no key for groq" in capsys.readouterr().out


@pytest.mark.parametrize("address", ["http://[::1", "http://localhost:abc/v1"])
def test_a_malformed_address_is_a_one_line_error(capsys: pytest.CaptureFixture[str], address: str) -> None:
    given = settings(CUSTOM_BASE_URL=address, CUSTOM_MODEL="m", PROVIDER="custom")
    for command in (["--json", "providers", "probe", "custom"], ["chat", "hi"]):
        assert main([*command, *given]) == 2
        err = capsys.readouterr().err
        assert "is not allowed: it must be an address such as https://host/v1" in err
        assert err.count("\n") == 1


def chat_with(server: ChatServer, *arguments: str, **values: str) -> list[str]:
    given = {"PROVIDER": "groq", "GROQ_MODEL": "m", "GROQ_BASE_URL": server.base_url, **values}
    return [*arguments, *settings(**given)]


def test_a_chat_shows_the_answer_as_it_arrives(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GROQ_API_KEY", KEY)
    with ChatServer(lambda *_: HELLO) as server:
        assert main(chat_with(server, "chat", "hi")) == 0
        assert capsys.readouterr().out == "Hello!\n"
        assert main(chat_with(server, "--json", "chat", "hi")) == 0
        assert json.loads(capsys.readouterr().out) == {
            "text": "Hello!",
            "finish_reason": "stop",
            "usage": {"prompt_tokens": 3, "completion_tokens": 2},
        }
        assert server.asked[0].headers["Authorization"] == f"Bearer {KEY}"
        assert server.asked[0].body["messages"] == [{"role": "user", "content": "hi"}]
    with ChatServer(lambda *_: Canned(chat_body("In one piece.", None))) as server:
        assert main(chat_with(server, "chat", "hi")) == 0
    assert capsys.readouterr().out == "In one piece.\n"


def test_usage_that_was_not_counted_is_null(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GROQ_API_KEY", KEY)
    with ChatServer(lambda *_: sse(piece("Hi"), piece("", finish_reason="stop"))) as server:
        assert main(chat_with(server, "--json", "chat", "hi")) == 0
    assert json.loads(capsys.readouterr().out)["usage"] == {"prompt_tokens": None, "completion_tokens": None}


def test_a_refusal_and_a_broken_answer_are_errors_on_their_own_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GROQ_API_KEY", KEY)
    refused = sse(piece("", delta={"refusal": "I can't."}), piece("", finish_reason="stop"))
    with ChatServer(lambda *_: refused) as server:
        assert main(chat_with(server, "chat", "hi")) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "refused to answer" in captured.err
    with ChatServer(lambda *_: sse(piece("Hel"))) as server:
        assert main(chat_with(server, "chat", "hi")) == 1
    assert capsys.readouterr().out == "Hel\n"


def test_advice_names_only_settings_that_count(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GROQ_API_KEY", KEY)
    other = settings(TEACHER_PROVIDER="vllm", PROVIDER="groq", TEACHER_MODEL="x")
    assert main(["chat", "hi", *other]) == 1
    assert "No model is set for groq; set GROQ_MODEL." in capsys.readouterr().err
    for status, words in ((401, "no"), (404, "no such model"), (404, "Not Found"), (307, ""), (400, "no")):
        with ChatServer(lambda *_, s=status, w=words: Canned({"error": {"message": w}}, s)) as server:
            given = settings(TEACHER_PROVIDER="vllm", PROVIDER="groq", GROQ_MODEL="m", GROQ_BASE_URL=server.base_url)
            assert main(["chat", "hi", *given]) == 1
        err = capsys.readouterr().err
        assert "GROQ_" in err or "provider's settings" in err
        assert "TEACHER_" not in err
        assert KEY not in err


def test_escape_sequences_of_a_server_are_not_printed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GROQ_API_KEY", KEY)
    with ChatServer(lambda *_: Canned({"error": {"message": "no \x1b[2J such model"}}, 400)) as server:
        assert main(chat_with(server, "chat", "hi")) == 1
    err = capsys.readouterr().err
    assert "such model" in err
    assert "\x1b" not in err


def started(arguments: list[str]) -> "subprocess.Popen[str]":
    root = Path(__file__).parents[2]
    return subprocess.Popen(
        [sys.executable, "-m", "bitnet_core", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(root), "GROQ_API_KEY": KEY},
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_chat_with_a_message_on_its_own_line(number: signal.Signals) -> None:
    """The server holds back the end of its answer until the test is over."""
    over = threading.Event()
    with ChatServer(lambda *_: HELLO) as server:
        hold_back(server, over)
        process = started(chat_with(server, "chat", "hi"))
        with process:
            assert process.stdout is not None
            assert process.stdout.read(3) == "Hel"
            process.send_signal(number)
            out, err = process.communicate(timeout=60)
        over.set()
    assert process.returncode == 130
    assert out == "\n"
    assert "Stopped" in err


def hold_back(server: ChatServer, over: threading.Event) -> None:
    """Make the server send the first event of an answer at once, and the rest when `over` is set."""

    def serve(handler: Any) -> None:
        handler.rfile.read(int(handler.headers["Content-Length"]))
        handler.send_response(200)
        handler.send_header("Content-Type", "text/event-stream")
        handler.send_header("Connection", "close")
        handler.end_headers()
        handler.wfile.write(HELLO.body.split(b"\n\n")[0] + b"\n\n")
        handler.wfile.flush()
        over.wait(60)
        handler.close_connection = True

    server._serve = serve  # type: ignore[method-assign]


def test_a_signal_works_while_the_embedded_teacher_is_fetched(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cleaned: list[bool] = []

    def endless(progress: Callable[[str, int, int], None]) -> EmbeddedFiles:
        threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGTERM)).start()
        try:
            for _ in range(3000):
                progress("downloading the embedded teacher", 0, 100)
                time.sleep(0.01)
        finally:
            cleaned.append(True)
        raise AssertionError("it was not stopped")

    monkeypatch.setattr("bitnet_core.teachers.opening.ensure_files", endless)
    assert main(["chat", "hi", *settings(PROVIDER="embedded")]) == 130
    assert cleaned == [True]
    assert "Stopped" in capsys.readouterr().err


def test_the_embedded_server_is_given_no_key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GROQ_API_KEY", KEY)
    given: list[dict[str, str]] = []

    def popen(*_: Any, env: dict[str, str], **__: Any) -> Any:
        given.append(env)
        raise FileNotFoundError

    monkeypatch.setattr("subprocess.Popen", popen)
    with pytest.raises(FileNotFoundError):
        EmbeddedServer(tmp_path / "x.gguf").start()
    assert KEY not in given[0].values()
    assert given[0]["HOME"] == os.environ["HOME"]
