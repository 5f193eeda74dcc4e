"""Whatever a storage target returns ends in a sentence and harms nothing here."""

import json
from pathlib import Path

import pytest
from dotenv import dotenv_values

from bitnet_core.cli.main import main
from bitnet_core.storage.layout import Stored, sha256
from tests.cli.stored import CANARY, answer, complaint, publish, put, stored, write

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


def test_links_that_lead_round_end_in_a_sentence(
    exp: Path, target: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    answer(capsys, "--root", str(exp), "store", "push")
    write(Path("a/exp/.env"), "")
    for place in ("logs/train-1", "data"):
        path = Path("a/exp", place)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(path.name)
        only = place.partition("/")[0]
        assert f"{path.absolute()}/" in complaint(capsys, "--root", "a/exp", "store", "pull", "--only", only)
    assert main(["--root", "a/exp", "store", "push", "--dry-run", "--force"]) == 0
    assert f"{Path('a/exp/data').absolute()} is not stored" in capsys.readouterr().err
    around = target.with_name("around")
    around.symlink_to(around.name)
    monkeypatch.setenv("STORAGE_LOCAL_DIR", str(around))
    for action in ("check", "push", "verify"):
        assert str(around) in complaint(capsys, "--root", str(exp), "store", action)


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
        "NOTIFY_COMMAND": "/theirs/program", "NOTIFY_WEBHOOK_FORM": "json",
        "NOT_A_SETTING": "1", "STUDENT_INIT": "../theirs", "TOTAL_STEPS": "7", "TEACHER_BASE_URL": "http://elsewhere.example/v1",
    }  # fmt: skip
    text = "".join(f"{name}={value}\n" for name, value in hostile.items())
    publish(target, [put(target, "settings.env", text)])
    assert main(["open", "local:exp", "new"]) == 0
    warnings = capsys.readouterr().err
    assert dotenv_values("new/.env", interpolate=False) == {
        "TOTAL_STEPS": "7", "TEACHER_BASE_URL": "http://elsewhere.example/v1", "STUDENT_INIT": "../theirs",
        "STORAGE_BACKEND": "local", "STORAGE_NAME": "exp", "STORAGE_LOCAL_DIR": str(target),
    }  # fmt: skip
    for name in hostile.keys() - {"TOTAL_STEPS"}:
        assert name in warnings
    answer(capsys, "--root", "new", "store", "push")
    assert all(CANARY.encode() not in (target / name).read_bytes() for name in stored(target))


def test_spending_limits_are_named_and_devices_stay_where_they_are(
    target: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "KD_MAX_USD=1000000\nKD_PRICES_FILE=inputs/p.json\nCUDA_VISIBLE_DEVICES=7\nLR=1e-4\n"
    publish(target, [put(target, "settings.env", text), put(target, "inputs/p.json", "{}")])
    assert main(["open", "local:exp", "new"]) == 0
    warnings = capsys.readouterr().err
    assert "KD_MAX_USD=1000000 came with the experiment; check that it is right here." in warnings
    assert "KD_PRICES_FILE=inputs/p.json came with the experiment" in warnings
    assert "CUDA_VISIBLE_DEVICES was left out: it is about another machine" in warnings
    written = Path("new/.env").read_text()
    assert "KD_MAX_USD=1000000" in written and "CUDA_VISIBLE_DEVICES" not in written


@pytest.mark.parametrize("text", ["\xff", "A" * (2 << 20), "LR='unclosed\n", "\x00"])
def test_settings_that_cannot_be_read_are_left(target: Path, capsys: pytest.CaptureFixture[str], text: str) -> None:
    entry = put(target, "settings.env", "")
    data = text.encode("latin-1")
    (target / "exp/settings.env").write_bytes(data)
    publish(target, [Stored(entry.name, len(data), sha256(data), "settings")])
    assert main(["open", "local:exp", "new"]) == 0
    assert "STORAGE_NAME=exp" in Path("new/.env").read_text()
