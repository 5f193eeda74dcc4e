"""A stage's fingerprint covers the files that its settings name, and reads each version of a file once."""

import os
from pathlib import Path

import pytest

from bitnet_core import files
from bitnet_core.runs import catalog
from bitnet_core.settings.resolve import from_values


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


def test_merging_system_messages_makes_a_collection_another_one() -> None:
    kept, merged = ({}, {"TEMPLATE_SYSTEM": "merge"})
    known = set(from_values({}).values) - {"TEMPLATE_SYSTEM"}
    older = catalog.fingerprint("collect", from_values(kept), {}, known)
    assert older == catalog.fingerprint("collect", from_values(kept), {}, known)
    assert older != catalog.fingerprint("collect", from_values(merged), {}, known)


def test_a_setting_that_a_run_did_not_know_counts_only_when_it_is_set() -> None:
    unset = from_values({})
    known = set(unset.values) - {"WEIGHT_DECAY"}
    before = catalog.fingerprint("train", unset, {}, known)
    assert before != catalog.fingerprint("train", unset, {})
    assert before == catalog.fingerprint("train", from_values({}), {}, known)
    assert before != catalog.fingerprint("train", from_values({"WEIGHT_DECAY": "0.2"}), {}, known)
