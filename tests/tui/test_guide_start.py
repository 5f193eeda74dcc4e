"""The guide: what is known of the model that a student is to start from, and warnings that stay until the review."""

import json
from pathlib import Path

import pytest

from bitnet_tui.services.starts import known
from tests.tui.guides import app, at, field_of, press
from tests.tui.pilots import SIZES, click_on, said, settled, until, words


def _model(folder: Path, *, weights: bool = True) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"num_hidden_layers": 30, "hidden_size": 576}))
    if weights:
        (folder / "model.safetensors").write_bytes(b"")
    return folder


def test_what_a_text_names_is_known_without_asking_anybody(isolated: Path, monkeypatch: pytest.MonkeyPatch):
    (isolated / "empty").mkdir()
    (isolated / "odd").mkdir()
    (isolated / "odd" / "config.json").write_text("[")
    (isolated / "good.gguf").write_bytes(b"GGUF" + bytes(96))
    (isolated / "bad.gguf").write_bytes(b"GGJT" + bytes(96))
    (isolated / "notes.txt").write_text("")
    monkeypatch.setenv("HF_HOME", str(isolated / "hf"))
    (isolated / "hf/hub/models--a--here/snapshots/1").mkdir(parents=True)
    (isolated / "hf/hub/models--a--here/snapshots/1/config.json").write_text("{}")
    for text, told, wrong in (
        *((text, "", False) for text in ("", "random", "teacher")),
        (str(_model(isolated / "m")), "A folder with a model of 30 layers, 576 wide.", False),
        (str(_model(isolated / "bare", weights=False)), "this folder has no weights (no .safetensors)", True),
        (str(isolated / "empty"), "this folder holds no model (no config.json)", True),
        (str(isolated / "odd"), "config.json in this folder is not JSON", True),
        (str(isolated / "good.gguf"), "A GGUF file of 100 B.", False),
        (str(isolated / "bad.gguf"), "this file is not GGUF inside", True),
        (str(isolated / "notes.txt"), "a file that is no .gguf file", True),
        ("a/here", "A model of the hub, downloaded already.", False),
        ("a/there-1.1b", "Looks like a name on the hub; it will be downloaded from there.", False),
        ("no model", "neither a folder or .gguf file here, nor a name on the hub", True),
    ):
        assert known(text) == (text, told, wrong)


@pytest.mark.parametrize("size", SIZES)
async def test_a_preset_that_a_model_to_start_from_replaces_says_so_and_offers_to_count(
    home: Path, size: tuple[int, int]
):
    async with app(home).run_test(size=size) as pilot:
        guide = await at(pilot, "student")
        field_of(guide, "STUDENT_INIT").value = "teacher"
        await settled(pilot)
        await click_on(pilot, "○ mini")
        assert said(pilot, "#problem") == "“Start from” names a model, which gives the shape: teacher."
        assert guide.draft.get("MINI_PRESET") == "nano"
        await press(pilot, "ctrl+o")
        assert [guide.draft.get(name) for name in ("STUDENT_INIT", "MINI_PRESET")] == ["random", "mini"]
        assert "◉ mini" in words(pilot)


async def test_a_start_that_is_no_model_is_said_at_once_and_in_the_review(home: Path):
    async with app(home).run_test(size=(120, 36)) as pilot:
        guide = await at(pilot, "student")
        field_of(guide, "STUDENT_INIT").value = "/no/such/folder"
        told = "neither a folder or .gguf file here, nor a name on the hub"
        await until(pilot, lambda: said(pilot, "#problem") == f"“Start from” names no model: {told}.")
        await guide._come_to("review")
        await settled(pilot)
        assert f"! Student · Start from: {told}" in words(pilot)
        await click_on(pilot, "Set it to random")
        assert guide.draft.get("STUDENT_INIT") == "random"


async def test_a_warning_about_the_student_stays_on_the_review_until_it_is_mended_and_stops_nothing(home: Path):
    async with app(home).run_test(size=(120, 36)) as pilot:
        guide = await at(pilot, "student")
        for name, value in (("LR", "2e-5"), ("MAX_SEQ_LEN", "256")):
            field_of(guide, name).value = value
        await settled(pilot)
        await guide._come_to("review")
        await settled(pilot)
        assert "! Student · Last learning rate: not below the learning rate" in words(pilot)
        assert "! Student · Sequence length: cuts off longer answers" in words(pilot)
        assert "◉ Run the whole pipeline" in words(pilot)
        await click_on(pilot, "Set it to 2e-6")
        await guide._come_to("review")
        await settled(pilot)
        assert "Last learning rate: not below" not in words(pilot)
        await click_on(pilot, "Set it to 640")
        assert guide.draft.get("MAX_SEQ_LEN") == "640"
