"""Notices of runs: what is told, when, in which form; a command or a webhook that fails or hangs does no harm."""

import base64
import contextlib
import dataclasses
import http.server
import json
import os
import shlex
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitnet_core import files
from bitnet_core.errors import BitnetError
from bitnet_core.runs.events import Alert
from bitnet_core.runs.messenger import call_webhook, request_of, run_command, service_of
from bitnet_core.runs.notices import NOT_NOTIFIED, Alarms, Notice, end_notice, is_quiet
from bitnet_core.runs.notifier import Notifier
from bitnet_core.runs.record import Run
from bitnet_core.settings.values import NotifyOptions
from tests.builders import events_of, followed
from tests.runs.real import Starter, eventually
from tests.tui.simulated import NOON, SimulatedRun, experiment

NOTICE = Notice("end", "kd-smol", "train", "train-1", "failed", "The <!channel> & moon.")


class _Receiver(http.server.BaseHTTPRequestHandler):
    """Keeps what it is sent; answers what the path says: `/200`, `/307`, or `/hang`, which never ends."""

    got: list[tuple[str, dict[str, str], bytes]]
    release: threading.Event

    def do_POST(self) -> None:
        self.got.append((self.path, dict(self.headers), self.rfile.read(int(self.headers["Content-Length"]))))
        if self.path.endswith("hang"):
            self.release.wait(30)
            return
        self.send_response(int(self.path.rpartition("/")[2]))
        self.send_header("Location", "/200")
        self.end_headers()

    do_GET = do_POST

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def receiver() -> Iterator[tuple[str, list[tuple[str, dict[str, str], bytes]]]]:
    """Its address, and what it got: path, headers and body."""
    kept: list[tuple[str, dict[str, str], bytes]] = []
    handler = type("Handler", (_Receiver,), {"got": kept, "release": threading.Event()})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", kept
    handler.release.set()
    server.shutdown()
    server.server_close()


@given(start=st.none() | st.integers(0, 23), until=st.none() | st.integers(0, 23), hour=st.integers(0, 23))
def test_quiet_hours_are_those_that_a_clock_passes_from_the_first_to_the_last(
    start: int | None, until: int | None, hour: int
) -> None:
    passed = set()
    if start is not None and until is not None:
        at = start
        while at != until:
            passed.add(at)
            at = (at + 1) % 24
    assert is_quiet(NotifyOptions(quiet_from=start, quiet_until=until), hour) == (hour in passed)


def test_an_alarm_is_told_once_for_each_code(tmp_path: Path) -> None:
    alarms = Alarms(Run(tmp_path), "kd", "train")
    told = [
        alarms.notice(Alert(severity=severity, code=code, message=f"{code}.", advice="Do."))
        for severity, code in (
            *(("warning", "nonfinite"), ("warning", "nonfinite"), ("info", "note"), ("warning", "other")),
            ("warning", NOT_NOTIFIED),
        )
    ]
    assert [one and (one.title, one.text) for one in told] == [
        ("train alarm: kd", "nonfinite. Do."), None, None, ("train alarm: kd", "other. Do."), None,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("address", "form", "service"),
    [
        ("https://hooks.slack.com/services/T/B/x", "", "slack"),
        ("https://discord.com/api/webhooks/1/x", "auto", "discord"),
        ("https://ntfy.sh/topic", "", "ntfy"),
        ("https://ntfy.example.org/topic", "", "ntfy"),
        ("https://example.org/hooks.slack.com", "", "json"),
        ("https://chat.example.org/hooks/x", "slack", "slack"),
    ],
)
def test_the_form_is_that_of_the_host_unless_it_is_set(address: str, form: str, service: str) -> None:
    assert service_of(address, form) == service


def test_each_service_gets_its_form_and_no_text_mentions_anybody() -> None:
    slack, discord, other = (json.loads(request_of(NOTICE, name)[0]) for name in ("slack", "discord", "json"))
    assert slack == {"text": "train failed: kd-smol\nThe &lt;!channel&gt; &amp; moon."}
    assert discord["allowed_mentions"] == {"parse": []} and discord["content"].endswith("moon.")
    assert (other["state"], other["stage"], other["experiment"]) == ("failed", "train", "kd-smol")
    body, headers = request_of(Notice("end", "größe", "train", "t", "done", "Ok."), "ntfy")
    assert (body, headers["Priority"], headers["Title"].isascii()) == (b"Ok.", "default", True)


def test_a_webhook_is_told_and_its_address_is_never_shown(
    receiver: tuple[str, list[tuple[str, dict[str, str], bytes]]],
) -> None:
    address, got = receiver
    call_webhook(f"{address}/T/secret/200", "", NOTICE)
    for path, why in (("secret/404", "it answered 404"), ("secret/307", "it answered 307")):
        with pytest.raises(BitnetError, match=rf"^The webhook at 127.0.0.1 was not notified: {why}; check") as error:
            call_webhook(f"{address}/{path}", "", NOTICE)
        assert "secret" not in str(error.value)
    assert [path for path, *_ in got] == ["/T/secret/200", "/secret/404", "/secret/307"]
    call_webhook(f"{address}/200".replace("//", "//me:p%40ss%C3%A9@"), "", NOTICE)
    assert got[-1][1]["Authorization"] == f"Basic {base64.b64encode('me:p@ssé'.encode()).decode()}"
    with pytest.raises(BitnetError, match="no answer within 0 s"):
        call_webhook(f"{address}/hang", "", NOTICE, seconds=0.2)
    for odd in ("ftp://host/x", "http://[", "topic", "http://host:port/"):
        with pytest.raises(BitnetError, match="is not an address") as error:
            call_webhook(odd, "", NOTICE)


@pytest.mark.parametrize(
    ("sent", "why"),
    [
        (b"garbage\r\n\r\n", "it does not speak HTTP"),
        (b"\0\0\x12\x04\0\0\0\0\0", "it does not speak HTTP"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n", "it does not speak HTTP"),
        (
            b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<!DOCTYPE html><title>Log in",
            "a web page came back, .*",
        ),
        (b"", "the connection broke"),
        (b"HTTP/1.1 302 Found\r\nLocation: http://[::\r\n\r\n", "it answered 302"),
        (b"HTTP/1.1 308 \x1b[31m\r\nLocation: \x1b[31m\r\n\r\n", "it answered 308"),
    ],
)
def test_what_is_no_answer_of_a_webhook_is_said_in_words(sent: bytes, why: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            client, _ = server.accept()
            with client:
                client.recv(1 << 16)
                client.sendall(sent)
                client.shutdown(socket.SHUT_WR)
                while client.recv(1 << 16):  # what is left unread would reset the connection
                    pass

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        with pytest.raises(BitnetError, match=rf"^The webhook at 127.0.0.1 was not notified: {why}; check"):
            call_webhook(f"http://127.0.0.1:{server.getsockname()[1]}/x", "json", NOTICE)
        thread.join()


def test_a_webhook_that_never_comes_to_an_end_is_cut_off() -> None:
    """Else what it goes on to say would take a processor from the run."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            client, _ = server.accept()
            with client, contextlib.suppress(OSError):
                while True:
                    client.sendall(b"HTTP/1.1 100 Continue\r\n\r\n" * 1000)

        threading.Thread(target=serve, daemon=True).start()
        before = set(threading.enumerate())
        with pytest.raises(BitnetError, match="no answer within 0 s"):
            call_webhook(f"http://127.0.0.1:{server.getsockname()[1]}/x", "json", NOTICE, seconds=0.3)
        eventually(lambda: set(threading.enumerate()) <= before)


@pytest.mark.parametrize("address", ["http://a\0b/", "http://127.0.0.1:1/a b\r\nX: y", "http://\u202eexample/"])
def test_what_is_no_address_of_a_webhook_is_said_in_words(address: str) -> None:
    with pytest.raises(BitnetError, match="was not notified: it is not an address; check NOTIFY_WEBHOOK"):
        call_webhook(address, "json", NOTICE)


def test_a_command_gets_its_words_and_no_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-canary-51c0ffee")
    monkeypatch.setenv("PYTHONIOENCODING", "latin-1")
    script = tmp_path / "tell.py"
    script.write_text(
        "import json, os, sys\n"
        "print(json.dumps([sys.argv[1:], json.loads(sys.stdin.readline()), dict(os.environ)]),"
        f"file=open({str(tmp_path / 'told')!r}, 'w'))"
    )
    run_command(
        shlex.join([sys.executable, str(script), "a b"]), Notice("end", "kd", "train", "t", "done", "--exec=x; $(y)")
    )
    arguments, record, environment = files.read_json(tmp_path / "told")
    assert arguments == ["a b", "train done: kd", "– --exec=x; $(y)"]
    assert record["run"] == "t"
    assert "OPENAI_API_KEY" not in environment
    assert environment["PYTHONIOENCODING"] == "latin-1"


@pytest.mark.parametrize(
    ("command", "problem"),
    [
        ("'open", "NOTIFY_COMMAND can't be read"),
        ("/nowhere/tell", "can't be started (No such file or directory)"),
        ("sh -c 'echo no such user >&2; exit 3'", "ended with exit code 3 (no such user)"),
        ("sh -c 'sleep 60 & sleep 60'", "did not end within 0 s and was killed"),
        ("sh -c 'head -c 40000000 /dev/zero; sleep 60'", "wrote more than 16 MiB and was killed; let it write to a"),
    ],
)
def test_a_command_that_fails_or_hangs_is_one_sentence(command: str, problem: str) -> None:
    with pytest.raises(BitnetError) as error:
        run_command(command, NOTICE, seconds=0.4 if "& sleep" in command else 20)
    assert problem in str(error.value)
    assert str(error.value).endswith(".")


@pytest.mark.parametrize(
    ("content", "mode", "fix"),
    [
        ("#!/bin/sh\n", 0o600, r"make its program executable \(chmod \+x\)"),
        ("echo\n", 0o700, "a line such as #!/bin/sh"),
    ],
)
def test_a_program_that_can_not_be_run_is_told_from_one_that_is_missing(
    tmp_path: Path, content: str, mode: int, fix: str
) -> None:
    program = tmp_path / "tell"
    program.write_text(content)
    program.chmod(mode)
    with pytest.raises(BitnetError, match=fix):
        run_command(str(program), NOTICE)


def test_quiet_hours_hold_back_what_is_told_and_a_failure_is_said_once(start: Starter) -> None:
    run = start(what="fail")
    followed(run)
    hours, slept = iter([23, 5, 7]), []
    told: list[str] = []

    def refuse(notice: Notice) -> None:
        told.append(notice.title)
        raise BitnetError("Nobody listens at KEY.")

    options = NotifyOptions(quiet_from=22, quiet_until=7)
    Notifier(
        run, options, {"a": refuse}, lambda: next(hours), slept.append, lambda text: text.replace("KEY", "•••")
    ).follow()
    assert (told, len(slept)) == (["train failed: exp"], 2)
    assert [one["message"] for one in events_of(run.events_path, "alert")] == ["Nobody listens at •••."]


def test_what_came_of_a_run_is_told_without_the_words_of_its_title(tmp_path: Path) -> None:
    run = SimulatedRun(experiment(tmp_path, "kd"), "train", NOON)
    for step, loss in ((0, 12.0), (10, 6.0), (20, 5.0)):
        run.emit("metric", 0, step=step, seen_tokens=1000 * step, loss=loss, heldout_loss=loss)
    run.finish()
    notice = end_notice(run.run, run.run.record(), "succeeded", "kd")
    assert notice.title == "train done: kd"
    assert notice.text.startswith("Held-out fell from 12.0 to 5.00. This run took ")


def test_a_run_tells_of_an_alarm_and_of_its_end_each_once(
    start: Starter, tmp_path: Path, receiver: tuple[str, list[tuple[str, dict[str, str], bytes]]]
) -> None:
    """In real processes: the alarm of a run that is then killed, its end, and a command that always fails."""
    address, got = receiver
    secret = {"NOTIFY_WEBHOOK": f"{address}/canary-9d1f/200"}
    run = start("teacher", "leak", {**secret, "OPENAI_API_KEY": "sk-canary-51c0ffee"}, NOTIFY_COMMAND="false")
    eventually(lambda: len(got) == 2 or None)
    sent = [json.loads(body) for _, _, body in got]
    assert [one["title"] for one in sent] == ["teacher alarm: exp", "teacher failed: exp"]
    assert not any(b"canary" in body for _, _, body in got)
    eventually(lambda: any(one["code"] == NOT_NOTIFIED for one in events_of(run.events_path, "alert")) or None)
    failures = [one for one in events_of(run.events_path, "alert") if one["code"] == NOT_NOTIFIED]
    assert [one["message"].partition(" (")[0] for one in failures] == ["NOTIFY_COMMAND ended with exit code 1"]
    assert "canary-9d1f" not in "".join(path.read_text() for path in run.path.iterdir())


def test_a_killed_run_is_told_of_and_a_stage_of_a_pipeline_leaves_its_end_to_it(
    start: Starter, receiver: tuple[str, list[tuple[str, dict[str, str], bytes]]]
) -> None:
    address, got = receiver
    run = start("train", "wait", {"NOTIFY_WEBHOOK": f"{address}/200"})
    eventually(lambda: events_of(run.events_path, "progress"))
    run.kill()
    eventually(lambda: got or None)
    assert json.loads(got[0][2])["title"] == "train stopped: exp"
    run.write(dataclasses.replace(run.record(), argv=["pipeline pipeline-20261128T025816Z-7476"]))
    told: list[Notice] = []
    Notifier(run, NotifyOptions(), {"a": told.append}).follow()
    assert told == []


def test_a_run_that_is_killed_is_told_as_stopped_once_that_is_recorded(start: Starter) -> None:
    run = start("train", "wait", {})
    eventually(lambda: events_of(run.events_path, "progress"))
    killed = run.record().process
    assert killed is not None
    os.killpg(killed.pid, signal.SIGKILL)
    eventually(lambda: run.state() == "interrupted" or None)
    told: list[Notice] = []
    Notifier(run, NotifyOptions(), {"a": told.append}, sleep=lambda _: run.kill()).follow()
    assert [one.state for one in told] == ["cancelled"]
