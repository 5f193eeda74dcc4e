"""`bitnet store pull`: what it brings, says and leaves alone."""

import os
from pathlib import Path

import pytest

from bitnet_core.cli.main import main
from tests.cli.stored import PART, answer, complaint, write


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


def test_the_stored_settings_are_a_copy_to_look_at(exp: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """They never stand in the way of a pull, and never replace the settings here."""
    answer(capsys, "--root", str(exp), "store", "push")
    answer(capsys, "--root", str(exp), "store", "pull")
    env = (exp / ".env").read_text().replace("LR=1e-4", "LR=2e-4")
    (exp / ".env").write_text(env)
    answer(capsys, "--root", str(exp), "store", "push")
    assert answer(capsys, "--root", str(exp), "store", "pull")["files"] == ["settings.env"]
    assert "LR=0.0002" in (exp / ".storage/settings.env").read_text()
    capsys.readouterr()
    (exp / ".storage/settings.env").unlink()
    assert main(["--root", str(exp), "store", "pull"]) == 0
    same = capsys.readouterr()
    assert same.out.startswith("nothing to bring; ") and not same.err
    (exp / ".storage/settings.env").unlink()
    (exp / ".env").write_text(env.replace("LR=2e-4", "LR=3e-4") + "TOTAL_STEPS=30\n")
    assert main(["--root", str(exp), "store", "pull"]) == 0
    said = capsys.readouterr()
    assert said.out.startswith("nothing to bring; ")
    assert said.err == (
        "bitnet: note: The settings stored there have LR=0.0002, TOTAL_STEPS at its default; those here stay as they "
        f"are; write into {exp.absolute()}/.env what you want to take over.\n"
    )
    (exp / ".env").write_text(env)
    assert (exp / ".env").read_text() == env


def test_what_killed_commands_left_here_is_removed(exp: Path, capsys: pytest.CaptureFixture[str]) -> None:
    large = exp / "checkpoints/mini_bitnet_step_00000020.pt"
    large.write_bytes(os.urandom(PART))
    write(exp / ".storage/work/copy-of-journal.sqlite", "left by a killed push")
    answer(capsys, "--root", str(exp), "store", "push")
    assert not (exp / ".storage/work").exists()
    large.unlink()
    write(large.with_name(f".{large.name}.{'0' * 16}.part"), "a part of another version")
    answer(capsys, "--root", str(exp), "store", "pull")
    assert not list(large.parent.glob(".*.part"))


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


def test_what_another_machine_has_set_aside_is_told(
    exp: Path, target: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name, aside = "checkpoints/mini_bitnet_step_00000010.pt", "checkpoints/superseded/2026"
    write(exp / name, "old")
    answer(capsys, "--root", str(exp), "store", "push")
    other = tmp_path / "other"
    options = ["--set", f"STORAGE_LOCAL_DIR={target}"]
    answer(capsys, "open", *options, f"local:{exp.name}", str(other))
    write(exp / aside / Path(name).name, "old")
    (exp / name).unlink()
    answer(capsys, "--root", str(exp), "store", "push")
    found = answer(capsys, "--root", str(other), "store", "pull", "--dry-run")
    assert found["moved"] == [name] and found["bring"] == [] and (other / name).exists()
    capsys.readouterr()
    assert main(["--root", str(other), "store", "pull"]) == 0
    assert capsys.readouterr().err == (
        f"bitnet: note: {name} had been set aside on another machine, and is now set aside here, too.\n"
    )
    assert (other / aside / Path(name).name).read_text() == "old" and not (other / name).exists()
