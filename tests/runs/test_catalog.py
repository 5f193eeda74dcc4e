"""A stage's fingerprint covers the files that its settings name, and reads each version of a file once."""

import os
from pathlib import Path

import pytest

from bitnet_core import files
from bitnet_core.runs import catalog
from bitnet_core.settings.resolve import from_values
from bitnet_core.settings.resolved import Settings


def _fingerprint(prompts: Path) -> str:
    return catalog.fingerprint("collect", from_values({"KD_PROMPTS_FILE": str(prompts)}), {})


def test_an_edit_in_place_of_the_same_size_changes_the_fingerprint(tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("Say hello.")
    status = prompts.stat()
    before = _fingerprint(prompts)
    with prompts.open("r+") as opened:
        opened.write("Say jello.")
    assert _fingerprint(prompts) != before
    with prompts.open("r+") as opened:
        opened.write("Say hullo.")
    os.utime(prompts, ns=(status.st_atime_ns, status.st_mtime_ns))
    third = _fingerprint(prompts)
    assert third not in (before, _fingerprint(tmp_path / "other.txt"))
    prompts.write_text("Say hello.")
    assert _fingerprint(prompts) == before


def test_an_unchanged_file_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("Say hello.")
    read: list[Path] = []
    monkeypatch.setattr(files, "sha256_file", lambda path: read.append(path) or "0" * 64)
    assert _fingerprint(prompts) == _fingerprint(prompts)
    assert read == [prompts]


def test_a_file_of_a_terabyte_is_known_without_reading_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prompts = tmp_path / "prompts.txt"
    with prompts.open("wb") as sparse:
        sparse.truncate(1 << 40)
    monkeypatch.setattr(files, "sha256_file", lambda path: pytest.fail(f"{path} is read"))
    before = _fingerprint(prompts)
    assert _fingerprint(prompts) == before
    os.utime(prompts, ns=(0, 1))
    assert _fingerprint(prompts) != before


def _made_without(name: str) -> Settings:
    """The settings of a run that did not know one of today's."""
    values = {key: value for key, value in from_values({}).to_record().items() if key != name}
    return Settings(values)


def test_merging_system_messages_makes_a_collection_another_one() -> None:
    older = _made_without("TEMPLATE_SYSTEM")
    before = catalog.fingerprint("collect", from_values({}), {}, older)
    assert before == catalog.fingerprint("collect", older, {}, older)
    assert before != catalog.fingerprint("collect", from_values({"TEMPLATE_SYSTEM": "merge"}), {}, older)


def test_a_setting_that_a_run_did_not_know_counts_only_when_it_is_set() -> None:
    older = _made_without("WEIGHT_DECAY")
    before = catalog.fingerprint("train", from_values({}), {}, older)
    assert before != catalog.fingerprint("train", from_values({}), {})
    assert before != catalog.fingerprint("train", from_values({"WEIGHT_DECAY": "0.2"}), {}, older)


def test_another_versions_default_undoes_no_result_until_the_setting_is_set() -> None:
    then = from_values({}).to_record() | {"TOTAL_STEPS": 1000, "SCHEDULER_TMAX": 1000, "LR": 0.5}
    left, chosen = Settings(then), Settings(then, {"LR": ".env line 1"})
    made = catalog.fingerprint("train", left, {})
    assert made == catalog.fingerprint("train", from_values({}), {}, left)
    assert made != catalog.fingerprint("train", from_values({"TOTAL_STEPS": "500"}), {}, left)
    assert made == catalog.fingerprint("train", from_values({"TOTAL_STEPS": "1000"}), {}, left)
    assert made != catalog.fingerprint("train", from_values({}), {}, chosen)
