"""`bitnet open` brings an experiment to a new folder, and `bitnet store` and it end at once on Ctrl-C."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bitnet_core.cli.main import main
from bitnet_core.storage.targets.local import FolderTarget
from tests.cli.stored import CANARY, answer, complaint, tree, write


def cut_at(whole: Callable[[FolderTarget, str], bytes], number: int) -> Callable[[FolderTarget, str], bytes]:
    """A target's `get` of which one call is cut by Ctrl-C."""
    calls = 0

    def get(self: FolderTarget, key: str) -> bytes:
        nonlocal calls
        calls += 1
        if calls == number:
            raise KeyboardInterrupt
        return whole(self, key)

    return get


# -- open ------------------------------------------------------------------------------------------------------------


def test_open_brings_everything_and_the_copy_goes_on(
    exp: Path, target: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    answer(capsys, "--root", str(exp), "store", "push")
    found = answer(capsys, "open", "local:exp", "elsewhere/exp2")
    root = Path("elsewhere/exp2").absolute()
    assert (found["root"], found["files"]) == (str(root), 10)
    assert (root / ".env").stat().st_mode & 0o777 == 0o600
    assert CANARY not in (root / ".env").read_text()
    assert (root / "inputs/prompts.jsonl").read_bytes() == Path("prompts.jsonl").read_bytes()
    monkeypatch.delenv("STORAGE_LOCAL_DIR")
    capsys.readouterr()
    assert main(["--root", str(root), "config", "--json"]) == 0
    settings = {one["name"]: one["value"] for one in map(json.loads, capsys.readouterr().out.splitlines())}
    assert settings["KD_PROMPTS_FILE"] == str(root / "inputs/prompts.jsonl")
    assert settings["LR"] == 1e-4
    assert settings["STORAGE_NAME"] == "exp"
    before = tree(target)
    assert answer(capsys, "--root", str(root), "store", "push", "--dry-run")["send"] == []
    again = answer(capsys, "--root", str(root), "store", "push")
    assert (again["sent_files"], again["sent_bytes"], again["state"]) == (0, 0, 1)
    assert tree(target) == before


def test_what_needs_keys_is_told_that_they_do_not_travel(
    exp: Path, target: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(exp / ".env", "TEACHER_PROVIDER=openai\nTEACHER_MODEL=a\n")
    answer(capsys, "--root", str(exp), "store", "push")
    assert main(["open", "local:exp", "elsewhere"]) == 0
    assert "brought. Keys do not travel: `bitnet keys set` keeps them here." in capsys.readouterr().out


def test_what_was_said_for_one_command_does_not_travel(
    exp: Path, target: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with (exp / ".env").open("a") as env:
        env.write("TOTAL_STEPS=30\n")
    Path("other.jsonl").write_text('{"prompt": "other"}\n')
    once = ["STORAGE_SYNC=end", "SEED=7", "TOTAL_STEPS=50", "TEACHER_PROVIDER=groq", "KD_PROMPTS_FILE=other.jsonl"]
    answer(capsys, "--root", str(exp), *(word for one in once for word in ("--set", one)), "store", "push")
    text = (target / "exp/settings.env").read_text()
    assert not any(name in text for name in ("SEED", "STORAGE_SYNC", "TEACHER_PROVIDER", "other"))
    assert "TOTAL_STEPS=30\n" in text and "KD_PROMPTS_FILE=inputs/prompts.jsonl\n" in text
    assert not (target / "exp/inputs/other.jsonl").exists() and (target / "exp/inputs/prompts.jsonl").exists()
    with (exp / ".env").open("a") as env:
        env.write("STORAGE_SYNC=end\n")
    answer(capsys, "--root", str(exp), "store", "push")
    assert "STORAGE_SYNC=" in next((target / "exp").glob("settings.env.revisions/*")).read_text()


def test_open_finds_the_only_experiment_and_lists_several(
    exp: Path, target: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "holds no experiment" in complaint(capsys, "open", "local", code=2)
    answer(capsys, "--root", str(exp), "store", "push")
    assert main(["open", "local", "--set", "BITNET_HOME=home"]) == 0
    out = capsys.readouterr().out
    assert "exp is in home/exp: 10 files" in out
    assert "bitnet --root home/exp pipeline" in out
    assert "Keys do not travel" not in out  # neither this teacher nor a folder needs one
    answer(capsys, "--root", str(exp), "store", "push", "--set", "STORAGE_NAME=second", "--force")
    assert "holds 2 experiments; name one of them, as local:NAME: exp, second." in complaint(
        capsys, "open", "local", code=2
    )
    for wrong in ("local:", "local:../exp", "local:a/b", "local:\x1b[2J"):
        assert "can't be an experiment's name" in complaint(capsys, "open", wrong, code=2)
    assert "is not a kind of storage target" in complaint(capsys, "open", "floppy:exp", code=2)
    assert "has no experiment third; it holds exp, second." in complaint(
        capsys, "open", "local:third", "third", code=2
    )
    assert not Path("third").exists()


def test_open_needs_a_new_folder_and_continues_an_interrupted_one(
    exp: Path, target: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    answer(capsys, "--root", str(exp), "store", "push")
    write(Path("full/novel.txt"), "chapter one")
    assert "is not empty" in complaint(capsys, "open", "local", "full", code=2)
    with monkeypatch.context() as patch:
        patch.setattr(FolderTarget, "get", cut_at(FolderTarget.get, 6))
        assert main(["open", "local", "new"]) == 130
    arrived = {path.name for path in Path("new").rglob("*") if path.is_file()}
    assert "mini_bitnet_step_00000010.pt" in arrived
    write(exp / "checkpoints/mini_bitnet_step_00000010.pt", "replaced after it had arrived there")
    write(exp / "reports/report.json", '{"qei": 2}\n')
    answer(capsys, "--root", str(exp), "store", "push")
    answer(capsys, "--root", str(exp), "store", "push", "--set", "STORAGE_NAME=copy", "--force")
    done = answer(capsys, "open", "local:exp", "new")
    assert done["files"] == 10
    assert Path("new/reports/report.json").read_text() == '{"qei": 2}\n'
    assert Path("new/checkpoints/mini_bitnet_step_00000010.pt").read_text().startswith("replaced")
    assert "is not empty" in complaint(capsys, "open", "local:exp", "new", code=2)


def test_work_in_a_folder_that_was_opened_halfway_is_never_replaced(
    exp: Path, target: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    answer(capsys, "--root", str(exp), "store", "push")
    with monkeypatch.context() as patch:
        patch.setattr(FolderTarget, "get", cut_at(FolderTarget.get, 6))
        assert main(["open", "local", "new"]) == 130
    answer(capsys, "--root", "new", "store", "pull", "--set", "STORAGE_NAME=exp")
    write(Path("new/reports/report.json"), "hours of work")
    for _ in range(2):
        assert "reports/report.json here differ" in complaint(capsys, "open", "local:exp", "new", code=2)
        assert Path("new/reports/report.json").read_text() == "hours of work"
    write(Path("new/reports/report.json"), '{"qei": 1}\n')
    answer(capsys, "open", "local:exp", "new")
    assert Path("new/.env").exists()


def test_a_damaged_copy_is_opened_as_far_as_it_is_whole(
    exp: Path, target: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answer(capsys, "--root", str(exp), "store", "push")
    (target / "exp/data/kd_shard_000.parquet").unlink()
    said = complaint(capsys, "open", "local:exp", "new")
    assert "data/kd_shard_000.parquet is missing or changed" in said and "9 files were brought" in said
    assert Path("new/reports/report.json").exists() and "LR=" in Path("new/.env").read_text()
    answer(capsys, "--root", str(exp), "store", "push", "--verify")
    assert answer(capsys, "open", "local:exp", "new")["files"] == 10
    assert Path("new/data/kd_shard_000.parquet").read_text() == "traces"


def test_settings_of_a_damaged_copy_are_warned_of_each_time(
    exp: Path, target: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with (exp / ".env").open("a") as env:
        env.write("TEACHER_BASE_URL=https://evil.example/v1\nKD_MAX_USD=1000000\n")
    answer(capsys, "--root", str(exp), "store", "push")
    lost = target / "exp/data/kd_shard_000.parquet"
    lost.rename(target / "aside")
    for _ in range(2):
        assert main(["open", "local:exp", "new"]) == 1
        said = capsys.readouterr().err
        assert "https://evil.example/v1 came with the experiment" in said and "KD_MAX_USD=1" in said
    (target / "aside").rename(lost)
    assert len(answer(capsys, "open", "local:exp", "new")["remarks"]) == 2


def test_an_older_state_is_never_taken_for_the_newest(
    exp: Path, target: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answer(capsys, "--root", str(exp), "store", "push")
    write(exp / "reports/report.json", '{"qei": 2}\n')
    newest = target / "exp" / answer(capsys, "--root", str(exp), "store", "push")["manifest"]
    newest.write_bytes(newest.read_bytes()[:-9])
    found = answer(capsys, "open", "local:exp", "new", code=1)
    assert "so this is an older one, state 1" in found["remarks"][0]
    forced = complaint(capsys, "--root", str(exp), "store", "pull", "--force", code=2)
    assert "older files would replace those here" in forced
    assert Path(exp / "reports/report.json").read_text() == '{"qei": 2}\n'
    Path("new/reports/report.json").unlink()
    said = complaint(capsys, "--root", "new", "store", "pull")
    assert "so this is an older one" in said


def test_runs_of_the_other_machine_are_interrupted_here(exp: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Also on the same host, where the process of the original is alive."""
    from bitnet_core import process

    me = process.current()
    record = {
        "id": "train-1", "stage": "train", "state": "running", "settings": {}, "origins": {}, "argv": [],
        "created": time.time(), "started": time.time(), "host": me.host, "boot_id": me.boot_id, "fingerprint": "f",
        "pid": me.pid, "process_start": me.start,
    }  # fmt: skip
    write(exp / "logs/train-1/run.json", json.dumps(record))
    write(exp / "logs/eval-2/run.json", json.dumps(record | {"id": "eval-2", "host": "other-host", "boot_id": "b"}))
    write(exp / "logs/eval-2/events.jsonl", '{"kind":"log","message":"hello"}\n')
    answer(capsys, "--root", str(exp), "store", "push")
    answer(capsys, "open", "local", "there")
    states = {}
    for root in (str(exp), "there"):
        capsys.readouterr()
        assert main(["--root", root, "runs", "--json"]) == 0
        told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        states[root] = {one["run"]: one["state"] for one in told}
        assert all(bool(one["error"]) == (one["state"] == "interrupted") for one in told), "it says why"
    assert states[str(exp)] == {"train-1": "running", "eval-2": "running"}
    assert states["there"] == {"train-1": "interrupted", "eval-2": "interrupted"}
    assert "is not running" in complaint(capsys, "--root", "there", "stop", "train-1", code=2)
    assert answer(capsys, "--root", "there", "store", "push")["sent_files"] == 0
    assert "is running, and --force" in complaint(capsys, "--root", str(exp), "store", "pull", "--force", code=2)


# -- stopping --------------------------------------------------------------------------------------------------------


HANGS = {
    "a thread": "T.put = lambda *a, **k: time.sleep(600)",
    "a call": "T.list = lambda *a, **k: time.sleep(600)",
    "what can't be interrupted": """
def hang(*_, **__):
    while True:
        try:
            time.sleep(600)
        except BaseException:
            pass
T.list = hang
""",
}


@pytest.mark.parametrize("where", HANGS)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_a_push_that_hangs(exp: Path, where: str, number: signal.Signals) -> None:
    code = (
        "import signal, sys, time\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from bitnet_core.storage.targets.local import FolderTarget as T\n"
        f"{HANGS[where]}\n"
        "from bitnet_core.cli.main import main\n"
        "from bitnet_core.storage import copy\n"
        "opened = copy.open_copy\n"
        "def ready(*a, **k):\n    sys.stderr.write('ready\\n'); sys.stderr.flush(); return opened(*a, **k)\n"
        "copy.open_copy = ready\n"
        f"sys.exit(main(['--root', {str(exp)!r}, 'store', 'push']))"
    )
    child = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True)
    assert child.stderr is not None
    assert child.stderr.readline() == "ready\n"
    time.sleep(0.3)
    child.send_signal(number)
    _, said = child.communicate(timeout=60)
    assert child.returncode == 130
    assert "Stopped; what has arrived is kept, and the same command continues from there." in said
