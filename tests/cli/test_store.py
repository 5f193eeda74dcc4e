"""`bitnet store` and `bitnet open` on a folder as the target: what they do, say and leave alone."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bitnet_core.cli.main import main
from bitnet_core.secrets.known import resolve_and_remember
from bitnet_core.settings.storage import BoxOptions
from bitnet_core.storage import manifest as manifests
from bitnet_core.storage import oauth
from bitnet_core.storage.catalog import Kind
from bitnet_core.storage.finding_keys import find_keys
from bitnet_core.storage.keys import Keys
from bitnet_core.storage.layout import Stored, sha256
from bitnet_core.storage.manifest import Manifest
from bitnet_core.storage.targets.local import FolderTarget

CANARY = "sk-canary-4f1b9d27c0a845e3"
PART = 33 << 20
"""A file of this size is stored in parts."""


@pytest.fixture
def target(isolated: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = isolated / "target"
    folder.mkdir()
    monkeypatch.setenv("STORAGE_LOCAL_DIR", str(folder))
    return folder


@pytest.fixture
def exp(target: Path, isolated: Path) -> Path:
    """An experiment with a file of every kind; keys are in its `.env` and in the environment."""
    root = isolated / "exp"
    (isolated / "prompts.jsonl").write_text('{"prompt": "hello"}\n')
    write(root / ".env", f"LR=1e-4\nKD_PROMPTS_FILE={isolated}/prompts.jsonl\nOPENAI_API_KEY={CANARY}\n")
    write(root / "reports/report.json", '{"qei": 1}\n')
    for step, best in ((10, 10), (20, 10)):
        write(root / f"checkpoints/mini_bitnet_step_{step:08d}.pt", f"weights {step}")
        health = {"step": step, "best": {"step": best, "heldout_loss": 1.0}}
        write(root / f"checkpoints/mini_bitnet_step_{step:08d}_health.json", json.dumps(health))
    write(root / "data/kd_shard_000.parquet", "traces")
    write(root / "data.journal/answers.bin", "answers")
    write(root / "logs/train-1/output.log", "hello\n")
    return root


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def tree(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    """Everything below a folder: its inode, its time of change, its content."""
    return {
        str(path.relative_to(folder)): (path.stat().st_ino, path.stat().st_mtime_ns,
                                        path.read_bytes() if path.is_file() else b"")
        for path in folder.rglob("*")
    }  # fmt: skip


def stored(target: Path) -> set[str]:
    return {str(path.relative_to(target)) for path in target.rglob("*") if path.is_file()}


def answer(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> dict[str, Any]:
    """The last line that a command writes with --json."""
    capsys.readouterr()
    assert main([*arguments, "--json"]) == code
    found: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])
    return found


def complaint(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 1) -> str:
    capsys.readouterr()
    assert main(list(arguments)) == code
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1, captured.err
    return captured.err


# -- check ---------------------------------------------------------------------------------------------------------


def test_check_uses_the_target_and_leaves_nothing(target: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = answer(capsys, "store", "check")
    assert found["seconds"].keys() == {"look", "write", "read", "list", "delete"}
    assert found["free_bytes"] > 0
    assert not stored(target)
    assert main(["store", "check"]) == 0
    assert f"{target} can be used" in capsys.readouterr().out


def test_check_says_what_to_do(
    target: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = f"STORAGE_LOCAL_DIR={target}/unmounted/disk"
    assert "mount its disk" in complaint(capsys, "store", "check", "--set", lost)
    monkeypatch.delenv("STORAGE_LOCAL_DIR")
    assert "No storage target is set; set STORAGE_BACKEND" in complaint(capsys, "store", "check", code=2)
    assert "needs S3_BUCKET" in complaint(capsys, "store", "check", "--set", "STORAGE_BACKEND=s3", code=2)


# -- push ----------------------------------------------------------------------------------------------------------


def test_a_push_says_what_it_did_and_a_second_one_sends_nothing(
    exp: Path, target: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = answer(capsys, "--root", str(exp), "store", "push")
    assert first["state"] == 1
    assert first["sent_files"] == first["files"] == 10
    before = tree(target)
    second = answer(capsys, "--root", str(exp), "store", "push")
    assert (second["sent_files"], second["sent_bytes"], second["state"]) == (0, 0, 1)
    assert tree(target) == before
    write(exp / "reports/report.json", '{"qei": 2}\n')
    assert main(["--root", str(exp), "store", "push"]) == 0
    assert f"1 files, 11 B sent; state 2 at {target}/exp/ has 10 files" in capsys.readouterr().out


def test_json_has_an_upload_event_for_each_file(exp: Path, target: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (exp / "checkpoints/mini_bitnet_step_00000020.pt").write_bytes(os.urandom(1) * PART)
    assert main(["--root", str(exp), "store", "push", "--json"]) == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()][:-1]
    assert {event["kind"] for event in events} == {"upload"}
    whole = {event["path"]: event for event in events if event["state"] == "done"}
    assert len(whole) == 10
    large = whole["checkpoints/mini_bitnet_step_00000020.pt"]
    assert large["done"] == large["bytes"] == PART
    assert large["target"] == "local"


def test_keys_and_env_files_never_reach_the_target(
    exp: Path, target: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    other = "hf_canary_77aa0192bdfe"
    monkeypatch.setenv("HF_TOKEN", other)
    write(exp / "reports/.env.bak", CANARY)
    write(exp / "inputs/.env", CANARY)
    secret = exp.parent / ".env.prices"
    secret.write_text(CANARY)
    with (exp / ".env").open("a") as env:
        env.write(f"KD_PRICES_FILE={secret}\nTEACHER_MODEL=model-{CANARY}\nWANDB_ENTITY={other}\n")
    found = answer(capsys, "--root", str(exp), "store", "push")
    assert any("may hold keys" in sentence for sentence in found["left"])
    for name in stored(target):
        assert ".env" not in Path(name).name or Path(name).name == "settings.env"
        data = (target / name).read_bytes()
        assert CANARY.encode() not in data, name
        assert other.encode() not in data, name


def test_a_dry_run_writes_nothing_at_all(exp: Path, target: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = tree(exp.parent)
    planned = answer(capsys, "--root", str(exp), "store", "push", "--dry-run")
    assert len(planned["send"]) == 10
    assert tree(exp.parent) == before

    answer(capsys, "--root", str(exp), "store", "push")
    write(exp / "reports/new.json", "{}")
    (exp / "reports/report.json").touch()
    (exp / "checkpoints/mini_bitnet_step_00000010.pt").unlink()
    (exp / "reports/link").symlink_to("/etc/hostname")
    before = tree(exp.parent)
    planned = answer(capsys, "--root", str(exp), "store", "push", "--dry-run")
    assert [one["path"] for one in planned["send"]] == ["reports/new.json"]
    assert planned["dropped"] == ["checkpoints/mini_bitnet_step_00000010.pt"]
    assert "leads out of" in planned["left"][0]
    assert main(["--root", str(exp), "store", "push", "--dry-run"]) == 0
    assert "  reports/new.json  2 B\n" in capsys.readouterr().out
    answer(capsys, "--root", str(exp), "store", "pull", "--dry-run", "--force")
    answer(capsys, "--root", str(exp), "store", "gc", "--dry-run", "--older-than", "0")
    assert tree(exp.parent) == before


def test_a_push_needs_an_experiment(target: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "is not an experiment" in complaint(capsys, "--root", "nothing", "store", "push", code=2)
    assert not Path("nothing").exists()
    assert not stored(target)


def test_another_machines_changes_are_kept_without_force(
    exp: Path, target: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answer(capsys, "--root", str(exp), "store", "push")
    answer(capsys, "open", "local", "there")
    write(Path("there/reports/theirs.json"), "{}")
    answer(capsys, "--root", "there", "store", "push")
    write(exp / "reports/ours.json", "{}")
    assert "was changed by another machine" in complaint(capsys, "--root", str(exp), "store", "push")
    answer(capsys, "--root", str(exp), "store", "pull")
    assert (exp / "reports/theirs.json").exists()
    assert answer(capsys, "--root", str(exp), "store", "push")["files"] == 12


# -- verify and repair ---------------------------------------------------------------------------------------------


def test_verify_names_what_is_missing_and_changed_and_push_repairs_it(
    exp: Path, target: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    large = exp / "checkpoints/mini_bitnet_step_00000020.pt"
    large.write_bytes(os.urandom(PART))
    answer(capsys, "--root", str(exp), "store", "push")
    copy = target / "exp"
    part = copy / "checkpoints/mini_bitnet_step_00000020.pt.parts/00001"
    part.write_bytes(bytes([part.read_bytes()[0] ^ 1]) + part.read_bytes()[1:])
    (copy / "reports/report.json").unlink()
    (copy / "data/kd_shard_000.parquet").write_text("longer than it was")
    before = tree(exp.parent)
    report = answer(capsys, "--root", str(exp), "store", "verify", code=1)
    assert {(one["object"].removeprefix("checkpoints/"), one["fault"]) for one in report["faults"]} == {
        ("mini_bitnet_step_00000020.pt.parts/00001", "changed"),
        ("reports/report.json", "missing"),
        ("data/kd_shard_000.parquet", "changed"),
    }
    assert len(answer(capsys, "--root", str(exp), "store", "verify", "--quick", code=1)["faults"]) == 2
    assert main(["--root", str(exp), "store", "verify"]) == 1
    assert "3 of 10 files are damaged; `bitnet store push --verify` repairs them" in capsys.readouterr().out
    assert tree(exp.parent) == before, "verify changes nothing"

    repaired = answer(capsys, "--root", str(exp), "store", "push", "--verify")
    assert repaired["damaged"] == []
    assert answer(capsys, "--root", str(exp), "store", "verify")["faults"] == []
    assert part.read_bytes() == large.read_bytes()[16 << 20 : 32 << 20]


def test_a_damaged_manifest_is_named_and_repaired(
    exp: Path, target: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answer(capsys, "--root", str(exp), "store", "push")
    write(exp / "reports/second.json", "{}")
    newest = target / "exp" / answer(capsys, "--root", str(exp), "store", "push")["manifest"]
    newest.write_bytes(newest.read_bytes().replace(b"second", b"SECOND"))
    faults = answer(capsys, "--root", str(exp), "store", "verify", code=1)["faults"]
    assert [one["object"] for one in faults] == [str(newest.relative_to(target / "exp"))]
    kept = stored(target)
    answer(capsys, "--root", str(exp), "store", "gc", "--older-than", "0")
    assert stored(target) == kept, "nothing is garbage while the newest manifest can't be read"
    answer(capsys, "--root", str(exp), "store", "push", "--verify")
    assert answer(capsys, "--root", str(exp), "store", "verify")["faults"] == []
    assert any(one["path"] == "reports/second.json" for one in listed(capsys, exp))

    for manifest in (target / "exp/manifests").iterdir():
        manifest.write_bytes(b"{}")
    assert "holds no manifest that can be read" in complaint(capsys, "--root", str(exp), "store", "verify")
    answer(capsys, "--root", str(exp), "store", "push", "--verify")
    assert answer(capsys, "--root", str(exp), "store", "verify")["faults"] == []


def test_what_cannot_be_repaired_is_said(exp: Path, target: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answer(capsys, "--root", str(exp), "store", "push")
    (exp / "reports/report.json").unlink()
    (target / "exp/reports/report.json").unlink()
    assert main(["--root", str(exp), "store", "push", "--verify"]) == 1
    assert "reports/report.json is damaged" in capsys.readouterr().err
    write(exp / "reports/report.json", '{"qei": 3}\n')
    assert main(["--root", str(exp), "store", "push", "--verify"]) == 0, "a newer version takes its place"
    assert answer(capsys, "--root", str(exp), "store", "verify")["faults"] == []


# -- pull ----------------------------------------------------------------------------------------------------------


def test_pull_brings_what_is_missing_and_never_replaces_without_force(
    exp: Path, target: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answer(capsys, "--root", str(exp), "store", "push")
    write(exp / "reports/report.json", '{"qei": "mine"}')
    (exp / "data/kd_shard_000.parquet").unlink()
    assert "reports/report.json here differ" in complaint(capsys, "--root", str(exp), "store", "pull", code=2)
    assert not (exp / "data/kd_shard_000.parquet").exists(), "nothing was changed"
    found = answer(capsys, "--root", str(exp), "store", "pull", "--only", "data,checkpoints")
    assert found["files"] == ["data/kd_shard_000.parquet"]
    answer(capsys, "--root", str(exp), "store", "pull", "--force")
    assert (exp / "reports/report.json").read_text() == '{"qei": 1}\n'
    assert answer(capsys, "--root", str(exp), "store", "pull")["files"] == []


@pytest.mark.parametrize(
    ("arguments", "brought"),
    [
        (["--only", "reports"], {"reports/report.json"}),
        (["--only", "inputs,settings"], {"inputs/prompts.jsonl", "settings.env"}),
        (["--only", "data"], {"data/kd_shard_000.parquet", "data.journal/answers.bin"}),
        (["--only", "logs"], {"logs/train-1/output.log"}),
        (["--only", "checkpoints", "--checkpoint", "best"], {10}),
        (["--only", "checkpoints", "--checkpoint", "latest"], {20}),
        (["--only", "checkpoints", "--checkpoint", "20"], {20}),
        (["--only", "checkpoints"], {10, 20}),
    ],
)
def test_selective_pulls(
    exp: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], brought: set[str | int]
) -> None:
    answer(capsys, "--root", str(exp), "store", "push")
    write(Path("fresh/exp/.env"), "")
    names = set()
    for one in brought:
        stem = f"checkpoints/mini_bitnet_step_{one:08d}" if isinstance(one, int) else ""
        names |= {f"{stem}.pt", f"{stem}_health.json"} if stem else {str(one)}
    planned = answer(capsys, "--root", "fresh/exp", "store", "pull", "--dry-run", *arguments)
    assert {one["path"] for one in planned["bring"]} == names
    assert set(answer(capsys, "--root", "fresh/exp", "store", "pull", *arguments)["files"]) == names


def test_wrong_selections_are_explained(exp: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answer(capsys, "--root", str(exp), "store", "push")
    pull = ["--root", str(exp), "store", "pull"]
    assert "--only takes reports, checkpoints" in complaint(capsys, *pull, "--only", "weights", code=2)
    assert "a step that is stored: 20, 10." in complaint(capsys, *pull, "--checkpoint", "15", code=2)
    assert "bitnet open" in complaint(capsys, "--root", "nothing", "store", "pull", code=2)


# -- ls and gc -----------------------------------------------------------------------------------------------------


def listed(capsys: pytest.CaptureFixture[str], exp: Path, *arguments: str) -> list[dict[str, Any]]:
    capsys.readouterr()
    assert main(["--root", str(exp), "store", "ls", *arguments, "--json"]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_ls(exp: Path, target: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "holds no experiment" in complaint(capsys, "--root", str(exp), "store", "ls")
    answer(capsys, "--root", str(exp), "store", "push")
    assert [one["path"] for one in listed(capsys, exp, "reports")] == ["reports/report.json"]
    assert {one["role"] for one in listed(capsys, exp)} >= {"report", "checkpoint", "journal", "traces", "input"}
    answer(capsys, "--root", str(exp), "store", "push", "--set", "STORAGE_NAME=second", "--force")
    assert [one["experiment"] for one in listed(capsys, exp, "--all")] == ["exp", "second"]
    assert "has nothing below 'nowhere'" in complaint(capsys, "--root", str(exp), "store", "ls", "nowhere", code=2)
    assert main(["--root", str(exp), "store", "ls", "/reports/"]) == 0
    assert "reports/report.json   11 B  report  just now" in capsys.readouterr().out


def test_gc_removes_what_is_old_and_unreferenced(exp: Path, target: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answer(capsys, "--root", str(exp), "store", "push")
    kept = stored(target)
    week = 8 * 86400
    for name, age in (("old", week), ("young", 60)):
        write(target / f"exp/checkpoints/{name}.parts/00000", "left by a killed push")
        os.utime(target / f"exp/checkpoints/{name}.parts/00000", (time.time() - age,) * 2)
        write(target / f"_temp/{time.time() - age:.0f}-{name}", "x")
    dry = answer(capsys, "--root", str(exp), "store", "gc", "--dry-run")
    done = answer(capsys, "--root", str(exp), "store", "gc")
    assert dry["removed"] == done["removed"]
    assert [name.partition("-")[2] or name for name in done["removed"]] == ["checkpoints/old.parts/00000", "old"]
    assert len(done["young"]) == 2
    assert len(stored(target)) == len(kept) + 2
    assert main(["--root", str(exp), "store", "gc"]) == 0
    assert "left, as they are younger than 7 days" in capsys.readouterr().out
    answer(capsys, "--root", str(exp), "store", "gc", "--older-than", "0")
    assert stored(target) == kept
    assert "0 or more" in complaint(capsys, "store", "gc", "--older-than", "-1", code=2)


# -- open ----------------------------------------------------------------------------------------------------------


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
    again = answer(capsys, "--root", str(root), "store", "push")
    assert (again["sent_files"], again["sent_bytes"], again["state"]) == (0, 0, 1)
    assert tree(target) == before


def test_open_finds_the_only_experiment_and_lists_several(
    exp: Path, target: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "holds no experiment" in complaint(capsys, "open", "local", code=2)
    answer(capsys, "--root", str(exp), "store", "push")
    assert main(["open", "local", "--set", "BITNET_HOME=home"]) == 0
    out = capsys.readouterr().out
    assert "exp is in home/exp: 10 files" in out
    assert "bitnet --root home/exp pipeline" in out
    answer(capsys, "--root", str(exp), "store", "push", "--set", "STORAGE_NAME=second", "--force")
    assert "holds 2 experiments; name one of them, as local:NAME: exp, second." in complaint(
        capsys, "open", "local", code=2
    )
    for wrong in ("local:", "local:../exp", "local:a/b", "local:\x1b[2J"):
        assert "can't be an experiment's name" in complaint(capsys, "open", wrong, code=2)
    assert "is not a kind of storage target" in complaint(capsys, "open", "floppy:exp", code=2)
    assert "Nothing can be brought" in complaint(capsys, "open", "local:third", "third")
    assert not Path("third").exists()


def test_open_needs_a_new_folder_and_continues_an_interrupted_one(
    exp: Path, target: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    answer(capsys, "--root", str(exp), "store", "push")
    write(Path("full/novel.txt"), "chapter one")
    assert "is not empty" in complaint(capsys, "open", "local", "full", code=2)
    whole = FolderTarget.get
    calls = 0

    def fail_later(self: FolderTarget, key: str) -> bytes:
        nonlocal calls
        calls += 1
        if calls == 6:
            raise KeyboardInterrupt
        return whole(self, key)

    with monkeypatch.context() as patch:
        patch.setattr(FolderTarget, "get", fail_later)
        assert main(["open", "local", "new"]) == 130
    arrived = {path.name for path in Path("new").rglob("*") if path.is_file()}
    assert "mini_bitnet_step_00000010.pt" in arrived
    write(exp / "reports/report.json", '{"qei": 2}\n')
    answer(capsys, "--root", str(exp), "store", "push")
    answer(capsys, "--root", str(exp), "store", "push", "--set", "STORAGE_NAME=copy", "--force")
    done = answer(capsys, "open", "local:exp", "new")
    assert done["files"] == 10
    assert Path("new/reports/report.json").read_text() == '{"qei": 2}\n'
    assert "is not empty" in complaint(capsys, "open", "local:exp", "new", code=2)


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
        states[root] = {one["run"]: one["state"] for one in map(json.loads, capsys.readouterr().out.splitlines())}
    assert states[str(exp)] == {"train-1": "running", "eval-2": "running"}
    assert states["there"] == {"train-1": "interrupted", "eval-2": "interrupted"}
    assert "is not running" in complaint(capsys, "--root", "there", "stop", "train-1", code=2)
    assert answer(capsys, "--root", "there", "store", "push")["sent_files"] == 0
    assert "is running, and --force" in complaint(capsys, "--root", str(exp), "store", "pull", "--force", code=2)


# -- hostile targets -----------------------------------------------------------------------------------------------


def publish(target: Path, files: list[Stored], counter: int = 7, **fields: Any) -> None:
    made = Manifest(experiment="ab" * 16, name="exp", counter=counter, files=files, **fields)
    path = target / "exp" / manifests.key_of(made)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(made.encode())


def put(target: Path, name: str, text: str) -> Stored:
    """A stored file; its object is there if the name is one that a folder can hold safely."""
    data = text.encode()
    if name and ".." not in name and not name.startswith("/"):
        (target / "exp" / name).parent.mkdir(parents=True, exist_ok=True)
        (target / "exp" / name).write_bytes(data)
    return Stored(name, len(data), sha256(data), "report")


HOSTILE = [
    "../../evil", "/tmp/evil", "reports/../../evil", "reports/./x", "reports//x", "reports/\x1b[2J", "reports/a\nb",
    "reports/\u202egnp", "evil.sh", ".env", "reports", "reports/.env", "data.x/.env", "inputs/.env",
    "checkpoints/.storage/lock", "reports/x\\y", "",
]  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_end_in_a_sentence_and_write_nothing(
    target: Path, isolated: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    try:
        entry = put(target, name, "evil")
    except OSError:
        entry = Stored(name, 4, sha256(b"evil"), "report")
    publish(target, [entry, put(target, "reports/good/r.json", "{}")] if name != "reports" else [entry])
    before = {path for path in isolated.rglob("*") if "/new" not in str(path)}
    sentence = complaint(capsys, "open", "local:exp", "new")
    assert "\x1b" not in sentence
    assert {path for path in isolated.rglob("*") if "/new" not in str(path)} == before
    assert {path.name for path in Path("new").rglob("*")} <= {".storage"} | {
        one.name for one in Path("new/.storage").glob("*")
    }
    write(Path("exp/.env"), "")
    assert main(["--root", "exp", "store", "pull"]) == 1
    assert main(["--root", "exp", "store", "ls"]) in (0, 1)
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    assert "\x1b" not in captured.out + captured.err


@pytest.mark.parametrize(
    "entry",
    [
        Stored("reports/x", 1 << 60, "0" * 64, "report"),
        Stored("reports/x", -1, "0" * 64, "report"),
        Stored("reports/x", 1 << 49, "0" * 64, "report", part_bytes=1),
        Stored("reports/x", 4, "0" * 64, "report", part_bytes=1 << 40),
        Stored("reports/x", 4, "zz", "report"),
        Stored("reports/x", 4, "0" * 64, "report", stem="reports/y"),
        Stored("reports/x", 4, "0" * 64, "report\x1b[2J"),
    ],
)
def test_hostile_sizes_and_stems(target: Path, capsys: pytest.CaptureFixture[str], entry: Stored) -> None:
    write(target / "exp/reports/x", "evil")
    publish(target, [entry])
    write(Path("exp/.env"), "")
    for command in (["open", "local:exp", "new"], ["--root", "exp", "store", "pull"]):
        assert "Traceback" not in complaint(capsys, *command)
    for action in ("ls", "verify"):
        assert main(["--root", "exp", "store", action]) in (0, 1)
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    assert "\x1b" not in captured.out
    assert not Path("new/reports/x").exists()


@pytest.mark.parametrize(
    "text",
    [
        "", "[]", "null", "{" * 100_000, '{"files": 1}', "\x00", "9" * 5000,
        '{"experiment":"' + "ab" * 16 + '","name":"exp","counter":7,"files":[{"name":1}]}',
        '{"experiment":"../..","name":"exp","counter":7,"files":[]}',
    ],
)  # fmt: skip
def test_hostile_manifests(target: Path, capsys: pytest.CaptureFixture[str], text: str) -> None:
    write(target / f"exp/manifests/000007-{sha256(text.encode())}.json", text)
    write(target / "exp/manifests/\x1b[2J.json", text)
    write(target / "exp/manifests/000007-short.json", text)
    write(Path("exp/.env"), "")
    for command in (["ls"], ["pull"], ["verify"]):
        assert "exp" in complaint(capsys, "--root", "exp", "store", *command)
    assert "Nothing can be brought" in complaint(capsys, "open", "local:exp", "new")


def test_a_newer_format_is_not_gone_over(exp: Path, target: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answer(capsys, "--root", str(exp), "store", "push")
    text = '{"format": 2, "everything": "else"}'
    write(target / f"exp/manifests/000002-{sha256(text.encode())}.json", text)
    write(exp / "reports/new.json", "{}")
    for action in ("push", "pull", "ls", "verify", "gc"):
        assert "a newer version of bitnet-tui" in complaint(capsys, "--root", str(exp), "store", action)


def test_a_million_entries_and_a_cycle(target: Path, capsys: pytest.CaptureFixture[str]) -> None:
    publish(target, [Stored(f"r/{number}", 0, "0" * 64, "r") for number in range(200_001)])
    assert "Nothing can be brought" in complaint(capsys, "open", "local:exp", "new")
    (found,) = (target / "exp/manifests").iterdir()
    found.unlink()
    entry = put(target, "reports/r.json", "{}")
    publish(target, [entry], counter=1)
    (first,) = (target / "exp/manifests").iterdir()
    publish(target, [entry], counter=2, parent=f"manifests/{first.name}")
    publish(target, [entry], counter=3, parent="manifests/../../../etc/passwd")
    write(Path("exp/.env"), "")
    assert answer(capsys, "--root", "exp", "store", "pull")["files"] == ["reports/r.json"]
    write(Path("exp/reports/n.json"), "{}")
    assert answer(capsys, "--root", "exp", "store", "push")["state"] == 4
    assert answer(capsys, "--root", "exp", "store", "gc", "--older-than", "0")["removed"]


def test_names_of_experiments_are_checked(target: Path, capsys: pytest.CaptureFixture[str]) -> None:
    entry = put(target, "reports/r.json", "{}")
    publish(target, [entry])
    (found,) = (target / "exp/manifests").iterdir()
    for name in ("\x1b[2J", ".hidden", "a b", "x" * 65, "-rf"):
        write(target / name / "manifests" / found.name, found.read_text())
    assert main(["store", "ls", "--all", "--json"]) == 0
    assert [json.loads(line)["experiment"] for line in capsys.readouterr().out.splitlines()] == ["exp"]


def test_links_at_the_destination_lead_nowhere(
    exp: Path, target: Path, isolated: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answer(capsys, "--root", str(exp), "store", "push")
    outside = isolated / "outside"
    outside.mkdir()
    write(Path("a/exp/.env"), "")
    Path("a/exp/logs").mkdir()
    Path("a/exp/logs/train-1").symlink_to(outside / "made")
    for force in ([], ["--force"]):
        sentence = complaint(capsys, "--root", "a/exp", "store", "pull", "--only", "logs", *force)
        assert "outside the experiment" in sentence
    assert not list(outside.iterdir())
    Path("a/exp/logs/train-1").unlink()
    Path("a/exp/logs/train-1").mkdir()
    Path("a/exp/logs/train-1/output.log").symlink_to(outside / "victim")
    assert "differ" in complaint(capsys, "--root", "a/exp", "store", "pull", "--only", "logs", code=2)
    answer(capsys, "--root", "a/exp", "store", "pull", "--only", "logs", "--force")
    assert not list(outside.iterdir())
    assert Path("a/exp/logs/train-1/output.log").read_text() == "hello\n"
    assert not Path("a/exp/logs/train-1/output.log").is_symlink()


def test_hostile_settings_do_not_become_settings_here(
    target: Path, isolated: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    private = isolated / "private.key"
    private.write_text(CANARY)
    monkeypatch.setenv("OPENAI_API_KEY", CANARY)
    hostile = {
        "KD_PROMPTS_FILE": str(private), "EVAL_PROMPTS_FILE": "inputs/../../private.key", "S3_BUCKET": "theirs",
        "STORAGE_BACKEND": "s3", "STORAGE_LOCAL_DIR": "/theirs", "CHECKPOINTS_DIR": "/theirs", "HF_HOME": "/theirs",
        "BITNET_VAULT": "/theirs", "OPENAI_API_KEY": "theirs", "TEACHER_MODEL": "${OPENAI_API_KEY}", "LR": "cold",
        "NOT_A_SETTING": "1", "TOTAL_STEPS": "7", "TEACHER_BASE_URL": "http://elsewhere.example/v1",
    }  # fmt: skip
    text = "".join(f"{name}={value}\n" for name, value in hostile.items())
    publish(target, [put(target, "settings.env", text)])
    assert main(["open", "local:exp", "new"]) == 0
    warnings = capsys.readouterr().err
    written = Path("new/.env").read_text()
    assert [line for line in written.splitlines() if line and not line.startswith("#")] == [
        "TOTAL_STEPS=7", "TEACHER_BASE_URL=http://elsewhere.example/v1",
        "STORAGE_BACKEND=local", "STORAGE_NAME=exp", f"STORAGE_LOCAL_DIR={target}",
    ]  # fmt: skip
    for name in hostile.keys() - {"TOTAL_STEPS"}:
        assert name in warnings
    answer(capsys, "--root", "new", "store", "push")
    assert all(CANARY.encode() not in (target / name).read_bytes() for name in stored(target))


@pytest.mark.parametrize("text", ["\xff", "A" * (2 << 20), "LR='unclosed\n", "\x00"])
def test_settings_that_cannot_be_read_are_left(target: Path, capsys: pytest.CaptureFixture[str], text: str) -> None:
    entry = put(target, "settings.env", "")
    data = text.encode("latin-1")
    (target / "exp/settings.env").write_bytes(data)
    publish(target, [Stored(entry.name, len(data), sha256(data), "settings")])
    assert main(["open", "local:exp", "new"]) == 0
    assert "STORAGE_NAME=exp" in Path("new/.env").read_text()


# -- login ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("display", ["", ":0"])
def test_login_shows_what_to_open_and_keeps_the_token_unseen(
    isolated: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], display: str
) -> None:
    asked: list[tuple[str, str]] = []
    opened: list[str] = []

    def login(kind: Kind, options: BoxOptions, keys: Keys, show: Callable[[oauth.Prompt], object]) -> str:
        asked.append((options.client_id, keys.get("BOX_CLIENT_SECRET")))
        show(oauth.Prompt("https://login.example/\x1b[2J", "ABCD-1234"))
        return CANARY

    def open_page(url: str) -> bool:
        opened.append(url)
        return True

    monkeypatch.setattr(oauth, "login", login)
    monkeypatch.setattr("webbrowser.open", open_page)
    monkeypatch.setenv("DISPLAY", display)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setenv("BOX_CLIENT_SECRET", "secret-of-the-app")
    (isolated / "passphrase").write_text("correct horse battery\n")
    monkeypatch.setenv("BITNET_VAULT_PASSPHRASE_FILE", str(isolated / "passphrase"))
    box = ["--set", "STORAGE_BACKEND=box", "--set", "BOX_CLIENT_ID=app"]
    assert main(["store", "login", *box]) == 0
    captured = capsys.readouterr()
    assert "type the code ABCD-1234" in captured.out
    assert "BOX_REFRESH_TOKEN is kept in the vault" in captured.out
    assert "\x1b" not in captured.out
    assert CANARY not in captured.out + captured.err
    assert asked == [("app", "secret-of-the-app")]
    assert bool(opened) == bool(display)
    resolved = resolve_and_remember({"STORAGE_BACKEND": "box"})
    assert find_keys(resolved).get("BOX_REFRESH_TOKEN") == CANARY
    assert answer(capsys, "store", "login", *box)["kept"] == "vault"


def test_a_target_without_a_login_says_what_it_needs(
    target: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "A folder has no login" in complaint(capsys, "store", "login", code=2)
    monkeypatch.delenv("STORAGE_LOCAL_DIR")
    nextcloud = ["--set", "STORAGE_BACKEND=nextcloud"]
    assert "`bitnet keys set NC_APP_PASSWORD`" in complaint(capsys, "store", "login", *nextcloud, code=2)
    assert "BOX_CLIENT_ID is not set" in complaint(capsys, "store", "login", "--set", "STORAGE_BACKEND=box", code=2)


# -- stopping ------------------------------------------------------------------------------------------------------

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
    assert "Stopped; what has arrived is kept, and the same command goes on from there." in said
