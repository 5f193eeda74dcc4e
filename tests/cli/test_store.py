"""`bitnet store` on a folder as the target: what each action does, says and leaves alone."""

import contextlib
import json
import os
import shutil
import sqlite3
import time
from pathlib import Path

import pytest

from bitnet_core.cli.main import main
from bitnet_core.storage.layout import PART_BYTES
from bitnet_core.storage.target import Refused, Unreachable
from bitnet_core.storage.targets.local import FolderTarget
from tests.cli.stored import CANARY, PART, answer, complaint, listed, stored, tree, write

# -- check -----------------------------------------------------------------------------------------------------------


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
    monkeypatch.setenv("WEBDAV_PASSWORD", "secret-word")
    dav = ["STORAGE_BACKEND=webdav", "WEBDAV_URL=http://127.0.0.1:9/dav", "WEBDAV_USERNAME=me"]
    assert main(["store", "check", *(word for one in dav for word in ("--set", one))]) == 1
    said = "at 127.0.0.1:9 can't be reached (Connection refused); check its address, and that its server runs.\n"
    assert capsys.readouterr().err.endswith(said)
    lost = f"STORAGE_LOCAL_DIR={target}/unmounted/disk"
    assert "mount its disk" in complaint(capsys, "store", "check", "--set", lost)
    for create in (["--create"], ["--create"], []):
        answer(capsys, "store", "check", *create, "--set", lost)
    dav = ["STORAGE_BACKEND=webdav", "WEBDAV_URL=http://127.0.0.1:9/dav"]
    wrong = complaint(capsys, "store", "check", "--create", *(w for one in dav for w in ("--set", one)), code=2)
    assert "Nothing can be created at WebDAV from here, only at A folder, S3 and Supabase" in wrong
    monkeypatch.delenv("STORAGE_LOCAL_DIR")
    assert "No storage target is set; set STORAGE_BACKEND" in complaint(capsys, "store", "check", code=2)
    assert "needs S3_BUCKET" in complaint(capsys, "store", "check", "--set", "STORAGE_BACKEND=s3", code=2)


def test_check_says_that_the_copy_is_gone_and_makes_no_folder(
    exp: Path, target: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answer(capsys, "--root", str(exp), "store", "push")
    answer(capsys, "--root", str(exp), "store", "check")
    target.rename(target.with_name("elsewhere"))
    for action in ("check", "push", "pull", "verify"):
        said = complaint(capsys, "--root", str(exp), "store", action)
        assert (
            action not in ("check", "push") or f"The copy that was at {target}/exp/ is gone; mount its disk" in said
        )
        assert not target.exists()


# -- push ------------------------------------------------------------------------------------------------------------


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
    assert f"1 file, 11 B sent; state 2 at {target}/exp/ has 10 files" in capsys.readouterr().out


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
        env.write("NOTIFY_COMMAND=notify --token unknown-to-us\n")
    found = answer(capsys, "--root", str(exp), "store", "push")
    assert any("may hold keys" in sentence for sentence in found["left"])
    for name in stored(target):
        assert ".env" not in Path(name).name or Path(name).name == "settings.env"
        data = (target / name).read_bytes()
        assert CANARY.encode() not in data, name
        assert other.encode() not in data, name
        assert b"unknown-to-us" not in data, name


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


# -- verify and repair -----------------------------------------------------------------------------------------------


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
    *_, last = capsys.readouterr().out.splitlines()
    damaged, others = last.removeprefix("damaged: ").split(", 3 of 10 files; `bitnet store push --verify` repairs ")
    assert {*damaged.replace(" and ", ", ").split(", ")} == {one["path"] for one in report["faults"]}
    assert others == "them on a machine that has them"
    assert tree(exp.parent) == before, "verify changes nothing"

    assert main(["--root", str(exp), "store", "push", "--verify"]) == 0
    said = capsys.readouterr().out
    assert "3 files repaired; state 1 at" in said and "nothing to send" not in said
    assert answer(capsys, "--root", str(exp), "store", "verify")["faults"] == []
    assert part.read_bytes() == large.read_bytes()[PART_BYTES : 2 * PART_BYTES]


def test_verify_goes_on_behind_what_may_not_be_read(
    exp: Path, target: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    answer(capsys, "--root", str(exp), "store", "push")
    (target / "exp/reports/report.json").unlink()
    get = FolderTarget.get

    def refusing(self: FolderTarget, key: str) -> bytes:
        if key.endswith(".parquet"):
            raise Refused(f"{key} can't be used (permission denied); check its permissions.")
        return get(self, key)

    monkeypatch.setattr(FolderTarget, "get", refusing)
    name = "data/kd_shard_000.parquet"
    faults = answer(capsys, "--root", str(exp), "store", "verify", code=1)["faults"]
    assert {(one["path"], one["fault"]) for one in faults} == {
        (name, "unreadable"),
        ("reports/report.json", "missing"),
    }
    assert main(["--root", str(exp), "store", "verify"]) == 1
    *_, damaged, unreadable = capsys.readouterr().out.splitlines()
    assert damaged.startswith("damaged: reports/report.json, 1 of 10 files; `bitnet store push --verify` repairs")
    assert unreadable.startswith(f"not read: {name}, 1 of 10 files; ")
    assert unreadable.endswith("can't be used (permission denied); check its permissions")
    assert main(["--root", str(exp), "store", "push", "--verify", "--force"]) == 1
    said = capsys.readouterr()
    assert "1 file repaired" in said.out
    assert f"{name} was not compared, as it can't be read: " in said.err and "given up" not in said.err
    monkeypatch.setattr(FolderTarget, "get", get)
    assert answer(capsys, "--root", str(exp), "store", "verify")["faults"] == []


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
    assert main(["--root", str(exp), "store", "gc", "--older-than", "0"]) == 0
    assert f"can't be read ({newest.relative_to(target / 'exp')} is damaged)" in capsys.readouterr().err
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


def test_what_no_machine_has_any_more_can_be_given_up(
    exp: Path, target: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The target lost one file, and the machine that had it is gone."""
    answer(capsys, "--root", str(exp), "store", "push")
    shutil.rmtree(exp)
    (target / "exp/reports/report.json").unlink()
    assert main(["open", "local:exp", "there"]) == 1
    assert "push --verify --force` here drops what is lost" in capsys.readouterr().err
    write(Path("there/reports/mine.json"), "{}")
    assert "was changed by another machine" in complaint(capsys, "--root", "there", "store", "push", "--verify")
    assert main(["--root", "there", "store", "push", "--verify", "--force"]) == 0
    assert "reports/report.json was damaged at" in capsys.readouterr().err
    assert answer(capsys, "--root", "there", "store", "verify")["faults"] == []
    answer(capsys, "open", "local:exp", "third")
    assert Path("third/reports/mine.json").exists()
    assert answer(capsys, "--root", "there", "store", "push")["sent_files"] == 0


def test_what_one_read_finds_damaged_is_not_given_up(
    exp: Path, target: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    answer(capsys, "--root", str(exp), "store", "push")
    (exp / "reports/report.json").unlink()
    get, bad = FolderTarget.get, ["exp/reports/report.json"]

    def once(self: FolderTarget, key: str) -> bytes:
        data = get(self, key)
        if key in bad:
            bad.remove(key)
            return data[::-1]
        return data

    monkeypatch.setattr(FolderTarget, "get", once)
    done = answer(capsys, "--root", str(exp), "store", "push", "--verify", "--force")
    assert not bad
    assert (done["given_up"], done["damaged"]) == ([], [])
    assert any(one["path"] == "reports/report.json" for one in listed(capsys, exp))


@pytest.mark.parametrize("goes_on", [False, True])
def test_a_damaged_journal_is_repaired(
    exp: Path, target: Path, capsys: pytest.CaptureFixture[str], *, goes_on: bool
) -> None:
    path = exp / "data.journal/journal.sqlite"
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("pragma journal_mode=wal")
        db.execute("create table answers (body text)")
        db.execute("insert into answers values ('paid for')")
        answer(capsys, "--root", str(exp), "store", "push")
        there = target / "exp/data.journal/journal.sqlite"
        data = bytearray(there.read_bytes())
        data[5000] ^= 1
        there.write_bytes(data)
        if goes_on:
            db.execute("insert into answers values ('another')")
        done = answer(capsys, "--root", str(exp), "store", "push", "--verify")
        assert done["damaged"] == []
        assert answer(capsys, "--root", str(exp), "store", "verify")["faults"] == []


# -- ls and gc -------------------------------------------------------------------------------------------------------


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


def test_ls_tells_how_each_file_is_here_and_reads_only_the_manifest(
    exp: Path, target: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write(exp / "reports/other.json", "1")
    write(exp / "reports/third.json", "1")
    answer(capsys, "--root", str(exp), "store", "push")
    write(exp / "reports/report.json", "longer than before")
    write(exp / "reports/other.json", "2")
    (exp / "reports/third.json").unlink()
    read, get = [], FolderTarget.get
    monkeypatch.setattr(FolderTarget, "get", lambda self, key, *rest: read.append(key) or get(self, key, *rest))
    found = {one["path"]: one["here"] for one in listed(capsys, exp, "--here")}
    assert found["reports/report.json"] == "differs"
    assert found["reports/other.json"] == "unread"  # of the same size, and not compared
    assert found["reports/third.json"] == "missing"
    assert found["settings.env"] == ""
    assert "same" in found.values()
    assert read and all("manifest" in one for one in read)


def test_gc_removes_what_is_old_and_unreferenced(exp: Path, target: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answer(capsys, "--root", str(exp), "store", "push")
    kept = stored(target)
    week = 8 * 86400
    for name, age in (("old", week), ("young", 60)):
        write(target / f"exp/checkpoints/{name}.parts/00000", "left by a killed push")
        os.utime(target / f"exp/checkpoints/{name}.parts/00000", (time.time() - age,) * 2)
        temporary = target / f"_temp/{time.time() - age:.0f}-{name}"
        write(temporary, "x")
        os.utime(temporary, (time.time() - age,) * 2)
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


def test_an_outage_is_told_once_and_its_end_says_what_is_kept(
    target: Path, exp: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def put(_self: object, key: str, _data: bytes, *, only_if_absent: bool = False) -> None:
        raise Unreachable(f"The folder can't be reached ({'x' * 200} {key}); mount it.")

    monkeypatch.setattr("bitnet_core.storage.targets.local.FolderTarget.put", put)
    monkeypatch.setattr("bitnet_core.storage.patient.Patient._wait", lambda *_: 0.001)
    monkeypatch.setattr("bitnet_core.cli.target.note_retry._quiet_until", 0.0)
    capsys.readouterr()
    assert main(["--root", str(exp), "store", "push"]) == 1
    notes, end = capsys.readouterr().err.splitlines()
    assert "; mount it." in notes and "Trying again in 0 s." in notes and len(notes) < 500
    assert "can't be reached" in end
    assert end.endswith(" What has arrived is kept, and the same command continues from there.")
