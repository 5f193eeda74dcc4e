"""How the app starts and ends: options, what is imported, crashes, and that runs outlive it."""

import asyncio
import errno
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from textual.widgets import Static
from textual.worker import WorkerFailed

from bitnet_core.runs.experiment import Experiment
from bitnet_core.runs.history import History
from bitnet_core.secrets import known
from bitnet_core.settings.resolve import resolve
from bitnet_tui import crash
from bitnet_tui.app import BitnetApp
from bitnet_tui.start import _as_listed, main
from tests.tui.simulated import SimulatedRun, experiment, finished_experiment

HEAVY = ("torch", "transformers", "pyarrow", "numpy", "httpx", "keyring")
LATER = ("bitnet_tui.view.watch", "bitnet_core.secrets.encodings", "tomllib")
_REPO = str(Path(__file__).parents[2])


def _python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, "PYTHONPATH": _REPO, **environment},
    )


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_help_and_version_import_no_textual(option: str):
    code = (
        "import sys\nfrom bitnet_tui.start import main\n"
        f"try: main([{option!r}])\nexcept SystemExit as end: assert end.code == 0\n"
        "assert 'textual' not in sys.modules and 'bitnet_core.settings.resolve' not in sys.modules"
    )
    done = _python(code)
    assert done.returncode == 0, done.stderr
    assert "bitnet-tui" in done.stdout


def test_nothing_heavy_before_the_first_paint(home: Path):
    finished_experiment(home)
    code = f"""
import asyncio, sys
from pathlib import Path
from bitnet_tui.app import BitnetApp
painted = []
class Probe(BitnetApp):
    def _display(self, screen, renderable):
        super()._display(screen, renderable)
        if not painted and type(renderable).__name__ == 'LayoutUpdate':
            painted.append([name for name in {HEAVY!r} + {LATER!r} if name in sys.modules])
async def run():
    async with Probe(Path({str(home)!r})).run_test() as pilot:
        await pilot.pause()
asyncio.run(run())
assert painted == [[]], painted
"""
    done = _python(code)
    assert done.returncode == 0, done.stderr


def test_without_a_terminal_the_error_says_so(home: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["--home", str(home)]) == 2
    assert "bitnet-tui needs a terminal" in capsys.readouterr().err
    for option in ("--root", "--home"):
        with pytest.raises(SystemExit):
            main([option, ""])
        assert f"argument {option}: it is empty" in capsys.readouterr().err


def test_a_dumb_terminal_is_refused(home: Path):
    command = f"from bitnet_tui.start import main; import sys; sys.exit(main(['--home', {str(home)!r}]))"
    pid, terminal = pty.fork()
    if pid == 0:
        environment = {**os.environ, "TERM": "dumb", "PYTHONPATH": _REPO}
        os.execve(sys.executable, [sys.executable, "-c", command], environment)  # noqa: S606
    said = b""
    while b"needs a terminal" not in said:
        said += os.read(terminal, 4096)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 2
    assert b"\x1b" not in said


def test_a_folder_that_is_not_an_experiment(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["--root", str(tmp_path), "--plain"]) == 2
    assert f"{tmp_path} is not an experiment" in capsys.readouterr().err


def test_plain_lists_everything_as_text(home: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["--home", str(home), "--plain"]) == 0
    assert "No experiments" in capsys.readouterr().out
    root = finished_experiment(home).root
    experiment(home, "other")
    assert main(["--home", str(home), "--plain"]) == 0
    said = capsys.readouterr().out
    assert "QEI 7.28" in said
    assert "eval      done" in said or "eval      outdated" in said
    assert "other" in said
    assert main(["--home", str(home), "--root", str(root), "--plain"]) == 0
    assert "other" not in capsys.readouterr().out


def test_an_experiment_that_is_opened_by_a_link_is_the_one_in_the_list(home: Path, isolated: Path):
    root = experiment(home, "first").root
    (isolated / "link").symlink_to(root)
    (isolated / "elsewhere").mkdir()
    assert _as_listed(isolated / "link", home) == root == _as_listed(root / ".." / "first", home)
    (isolated / "homes").symlink_to(home)
    assert _as_listed(root, isolated / "homes") == isolated / "homes" / "first"
    assert _as_listed(isolated / "elsewhere", home) == isolated / "elsewhere"


@pytest.mark.parametrize("trouble", ["half a letter", "no folder", "anything"])
def test_a_crash_report_that_can_not_be_written_shows_no_key(
    isolated: Path, monkeypatch: pytest.MonkeyPatch, trouble: str
):
    """It must not raise: Python would then print the whole traceback."""
    if trouble == "no folder":
        (isolated / ".local").write_text("")
    if trouble == "anything":
        monkeypatch.setattr(crash, "redactor", lambda: 1 / 0)
    sentence = crash.report(ValueError("bad name \udcff.env sk-canary-0123456789abcdef"))
    assert "canary" not in sentence
    assert ("No report could be written" in sentence) == (trouble != "half a letter")
    written = [path.read_text() for path in isolated.rglob("crash-*.log")]
    assert len(written) == (trouble == "half a letter")
    assert all("bad name \\udcff.env" in text and "canary" not in text for text in written)


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (MemoryError(), "Memory ran out, "),
        (WorkerFailed(MemoryError()), "Memory ran out, "),
        (RuntimeError("can't start new thread"), "Memory ran out, "),
        (WorkerFailed(RuntimeError("can't start new thread")), "Memory ran out, "),
        (
            OSError(errno.EMFILE, os.strerror(errno.EMFILE), "/x"),
            "/x can't be used (Too many open files); raise the ",
        ),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/x"), "/x can't be used (No space left on device); free "),
        (WorkerFailed(OSError(errno.EIO, os.strerror(errno.EIO), "/x")), "/x can't be used (Input/output error); "),
    ],
)
def test_what_the_machine_lacks_is_no_bug(isolated: Path, error: Exception, sentence: str):
    said = crash.report(error)
    assert said.startswith(sentence)
    assert "bug" not in said
    assert not [*isolated.rglob("crash-*.log")]


def test_a_crash_report_holds_no_keys_and_no_locals(isolated: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-from-the-environment")
    known.remember(["sk-typed-just-now"])

    def fails() -> None:
        local = "a value of a local variable"
        raise ValueError(f"sk-typed-just-now sk-from-the-environment {len(local)}")

    try:
        fails()
    except ValueError as error:
        sentence = crash.report(error)
    (path,) = (isolated / ".local" / "state" / "bitnet-tui").iterdir()
    assert str(path) in sentence
    assert path.stat().st_mode & 0o777 == 0o600
    report = path.read_text()
    assert "ValueError" in report
    assert "sk-" not in report
    assert "a value of a local" not in report.replace('local = "a value of a local variable"', "")


async def test_an_exception_in_the_app_ends_it_with_one_sentence(home: Path, capsys: pytest.CaptureFixture[str]):
    finished_experiment(home)
    app = BitnetApp(home)

    def broken() -> None:
        api_key = "sk-local-key"
        raise ZeroDivisionError(len(api_key))

    with pytest.raises(ZeroDivisionError):
        async with app.run_test() as pilot:
            app.call_later(broken)
            await pilot.pause()
    said = capsys.readouterr()
    assert "bitnet-tui has a bug (ZeroDivisionError)" in said.out + said.err
    assert "sk-local-key" not in said.out + said.err
    assert app.return_code == 1


async def test_a_screen_that_is_filled_while_a_signal_ends_the_app_is_no_bug(
    home: Path, capsys: pytest.CaptureFixture[str]
):
    app, told = BitnetApp(home), asyncio.Event()

    async def fill() -> None:
        told.set()
        app.exit(return_code=130)
        await app.screen.mount(Static())

    async with app.run_test() as pilot:
        await pilot.pause()
        app.screen.call_later(fill)
        await told.wait()
    said = capsys.readouterr()
    assert (app.return_code, said.out + said.err) == (130, "")


def test_a_real_run_survives_kill_9_of_the_app(home: Path):
    """The run is a pipeline that keeps waiting, because another run of `teacher` keeps the experiment busy."""
    exp = experiment(home, "busy")
    busy = SimulatedRun(exp, "teacher", time.time(), alive=True)
    code = f"""
import time
from pathlib import Path
from bitnet_tui.services.launching import launch
print(launch(Path({str(home)!r}), Path({str(exp.root)!r}), "pipeline").run_id, flush=True)
time.sleep(60)
"""
    environment = {**os.environ, "PYTHONPATH": _REPO}
    app = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment)
    try:
        assert app.stdout is not None
        run_id = app.stdout.readline().strip()
        app.send_signal(signal.SIGKILL)
        app.wait()
        time.sleep(0.3)
        history = History.read(Experiment.from_settings(resolve({}, root=exp.root).settings))
        run = history.find(run_id)
        assert run.state() == "running"
        run.request_stop()
        busy.finish("cancelled", "stopped by the test")
        busy.end_process()
        deadline = time.monotonic() + 60
        while run.is_active() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert run.state() == "cancelled"
    finally:
        app.kill()
        app.communicate()
        busy.end_process()
