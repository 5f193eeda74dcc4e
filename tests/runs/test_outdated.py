"""A stage is done only while everything that it was made from is still the same, through all stages before it."""

import dataclasses
import json
import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from bitnet_core.runs import catalog
from bitnet_core.runs.changes import changed_words, changes
from bitnet_core.runs.effects import effects
from bitnet_core.runs.experiment import Experiment
from bitnet_core.runs.history import History
from bitnet_core.runs.record import Run, RunRecord
from bitnet_core.runs.resuming import change_words
from bitnet_core.settings.registry import PROVIDER_NAMES
from bitnet_core.settings.resolve import from_values
from bitnet_core.settings.resolved import Settings
from bitnet_core.settings.values import TeacherOptions
from bitnet_core.teachers.identity import identify

STAGES = ("teacher", "collect", "train", "eval", "dryrun")
NOON = 1_790_000_000.0
SOURCES = {"teacher": {"eval"}, "collect": {"train", "eval"}, "train": {"eval"}, "eval": set(), "dryrun": set()}
"""The stages that are made from each, directly or not."""


class Lab:
    """An experiment whose runs take no time: an hour passes between them."""

    def __init__(self, root: Path) -> None:
        self.root, self.values, self.now, self.count = root, {"DRIVE_ROOT": str(root)}, NOON, 0
        self.experiment.ensure()

    @property
    def experiment(self) -> Experiment:
        return Experiment.from_settings(from_values(self.values))

    def run(self, stage: str, state: str = "succeeded", *, writes: bool = True, number: bool = True) -> None:
        self.now += 3600
        self.count += 1
        run = Run(self.experiment.logs / f"{stage}-{self.count}")
        run.path.mkdir()
        fields = {
            "argv": [],
            "origins": dict(self.experiment.settings.origins),
            "host": "elsewhere",
            "boot_id": "b",
            "created": self.now,
            "pid": 1,
            "process_start": 1.0,
        }
        run.write(
            RunRecord(
                id=run.id,
                stage=stage,
                state=state,
                number=self.count if number else None,
                settings=self.experiment.settings.to_record(),
                fingerprint=History.read(self.experiment).fingerprint(stage),
                **fields,  # type: ignore[arg-type]
            )
        )
        if state == "running":
            run.events_path.touch()
        for at, pattern in catalog.stage(stage).outputs if writes else ():
            made = getattr(self.experiment, at) / pattern.replace("*", f"{self.count:03}")
            made.touch()
            os.utime(made, (self.now + 60, self.now + 60))

    def states(self) -> dict[str, str]:
        history = History.read(self.experiment)
        return {stage: history.status(stage).state for stage in STAGES}

    def outdated(self) -> set[str]:
        return {stage for stage, state in self.states().items() if state == "outdated"}


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    made = Lab(tmp_path / "exp")
    for stage in STAGES:
        made.run(stage)
    assert made.states() == dict.fromkeys(STAGES, "done")
    return made


@pytest.mark.parametrize(
    ("setting", "value", "stage"),
    [
        ("TOTAL_STEPS", "77", "train"),
        ("BUDGET_TOKENS", "7777", "train"),
        ("LR", "0.5", "train"),
        ("SEED", "7", "train"),
        ("KD_NUM_PROMPTS", "77", "collect"),
        ("TEMPLATE", "chatml", "collect"),
        ("TEACHER_BASELINE_MAX_TOKENS", "7", "teacher"),
        ("DRYRUN_LAYERS", "7", "dryrun"),
        ("LOG_INTERVAL", "7", ""),
    ],
)
def test_a_changed_setting_makes_what_comes_of_its_stage_outdated(
    lab: Lab, setting: str, value: str, stage: str
) -> None:
    lab.values[setting] = value
    outdated = lab.outdated()
    assert outdated == set() if not stage else outdated >= {stage, *SOURCES[stage]}
    assert setting == "SEED" or outdated == ({stage, *SOURCES[stage]} if stage else set())


OF_TEACHER = tuple(name for name in TeacherOptions.setting_names() if name.endswith(("MODEL", "_URL", "PROVIDER")))


def _teacher(values: Mapping[str, str]) -> object:
    return identify(TeacherOptions.of(from_values(values)))


@pytest.mark.parametrize("own", [(), ("TEACHER_MODEL", "TEACHER_BASE_URL")])
@pytest.mark.parametrize("provider", PROVIDER_NAMES)
def test_only_settings_that_name_another_teacher_make_its_stages_outdated(
    tmp_path: Path, provider: str, own: tuple[str, ...]
) -> None:
    lab = Lab(tmp_path / "exp")
    own_ones = [name for name in OF_TEACHER if name in own or not name.startswith("TEACHER_")]
    set_all = {name: f"own/{name}" if name.endswith("MODEL") else f"http://{name}/v1" for name in own_ones}
    lab.values |= {**set_all, "PROVIDER": "openai", "TEACHER_PROVIDER": provider}
    for stage in STAGES:
        lab.run(stage)
    history = History.read(lab.experiment)
    before = history.experiment.settings
    others = ("TEACHER_", "PROVIDER", "OPENAI_", "GROQ_")  # settings of the other providers are as idle as Groq's
    for name in (one for one in OF_TEACHER if one.startswith((*others, provider.upper()))):
        provided = name.endswith("PROVIDER")
        other = "another/model" if name.endswith("MODEL") else "http://another/v1"
        new = ("hf" if provider != "hf" else "groq") if provided else other
        values = {**lab.values, name: new}
        another = _teacher(values) != _teacher(lab.values)
        found = effects(history, from_values(values))
        assert found.outdated == (("teacher", "collect", "train", "eval") if another else ()), name
        assert found.concerned == (("teacher", "collect") if another else ()), name
        later = dataclasses.replace(history, experiment=Experiment.from_settings(from_values(values)))
        assert changes(later, "collect") == ((change_words(name, before.to_record()[name], new),) if another else ())


def test_a_setting_of_an_unused_provider_that_a_run_did_not_know_changes_nothing(lab: Lab) -> None:
    for entry in History.read(lab.experiment).entries:
        kept = {name: value for name, value in entry.record.settings.items() if not name.startswith("GROQ_")}
        fingerprint = History.read(lab.experiment).fingerprint(entry.record.stage, Settings(kept))
        entry.run.write(dataclasses.replace(entry.record, settings=kept, fingerprint=fingerprint))
    lab.values["GROQ_MODEL"] = "foo"
    assert lab.states() == dict.fromkeys(STAGES, "done")


@pytest.mark.parametrize(
    ("others", "name", "value", "counts"),
    [
        ({}, "STUDENT_INIT_FIT_STEPS", "7", False),
        ({"STUDENT_INIT": "teacher", "STUDENT_INIT_LAYERS": "0"}, "STUDENT_INIT_FIT_STEPS", "7", False),
        ({"STUDENT_INIT": "teacher", "STUDENT_INIT_LAYERS": "2"}, "STUDENT_INIT_FIT_STEPS", "7", True),
        ({"STUDENT_INIT": "teacher", "STUDENT_INIT_LAYERS": "0"}, "STUDENT_INIT_EMBEDDING", "trained", False),
        ({"STUDENT_INIT": "teacher", "STUDENT_INIT_LAYERS": "2"}, "STUDENT_INIT_EMBEDDING", "trained", True),
        ({"STUDENT_INIT": "teacher"}, "MINI_PRESET", "mini", False),
        ({"STUDENT_INIT": "teacher", "STUDENT_INIT_LAYERS": "0"}, "MINI_PRESET", "mini", True),
        ({"FLIP_POLICY": "hard"}, "FLIP_RAMP_FRACTION", "0.5", False),
        ({"FLIP_POLICY": "ramp"}, "FLIP_RAMP_FRACTION", "0.5", True),
        ({}, "ON_POLICY_KL", "forward", False),
        ({"TRAIN_ONLINE": "1", "ON_POLICY_FRACTION": "0.5"}, "ON_POLICY_KL", "forward", True),
    ],
)
def test_a_setting_that_has_no_effect_beside_the_others_makes_nothing_outdated(
    tmp_path: Path, others: dict[str, str], name: str, value: str, counts: bool
) -> None:
    """Nor does training begin anew for it."""
    lab = Lab(tmp_path / "exp")
    lab.values |= others
    for stage in STAGES:
        lab.run(stage)
    (checkpoint,) = lab.experiment.checkpoints.glob("*.pt")
    health = {"bytes": 0, "step": 9, "seen_tokens": 9, "budget": {"tokens": 9, "epoch_tokens": 9, "setting": 4.0}}
    checkpoint.with_name(f"{checkpoint.stem}_health.json").write_text(json.dumps(health))
    found = effects(History.read(lab.experiment), from_values({**lab.values, name: value}))
    assert found.outdated == (("train", "eval") if counts else ())
    assert counts or not (found.training.aside or found.training.refused)


@pytest.mark.parametrize(
    "changed", [{"LR": "0.5"}, {"SEED": "7"}, {"LOG_INTERVAL": "7"}, {"KD_NUM_PROMPTS": "7", "DRYRUN_LAYERS": "2"}]
)
def test_effects_tell_before_what_a_change_does(lab: Lab, changed: dict[str, str]) -> None:
    """As `states` does after it, and back again."""
    (checkpoint,) = lab.experiment.checkpoints.glob("*.pt")
    health = {"bytes": 0, "step": 9, "seen_tokens": 9, "budget": {"tokens": 9, "epoch_tokens": 9, "setting": 4.0}}
    checkpoint.with_name(f"{checkpoint.stem}_health.json").write_text(json.dumps(health))
    for values in (changed, dict.fromkeys(changed, "")):
        before, foretold = lab.states(), effects(History.read(lab.experiment), from_values({**lab.values, **values}))
        lab.values |= values
        after = lab.states()
        assert foretold.outdated == tuple(one for one in STAGES if (before[one], after[one]) == ("done", "outdated"))
        assert foretold.current == tuple(one for one in STAGES if (before[one], after[one]) == ("outdated", "done"))
        assert bool(foretold.concerned) == bool(foretold.outdated or foretold.current)
        assert foretold.running == ()
        assert foretold.training.starts_again == any(values.get(name) for name in ("LR", "SEED"))


def test_effects_name_the_stage_that_runs_only_if_they_concern_it(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    lab.run("train", "running")
    monkeypatch.setattr(Run, "state", lambda _, record=None: record.state if record else "running")
    history = History.read(lab.experiment)
    assert effects(history, from_values({**lab.values, "LR": "0.5"})).running == ("train",)
    assert effects(history, from_values({**lab.values, "DRYRUN_LAYERS": "2"})).running == ()


@pytest.mark.parametrize("state", ["failed", "cancelled", "interrupted"])
@pytest.mark.parametrize("stage", STAGES)
def test_a_later_run_that_wrote_something_makes_what_comes_of_it_outdated(lab: Lab, stage: str, state: str) -> None:
    lab.run(stage, state)
    assert lab.states()[stage] == state
    assert lab.outdated() == SOURCES[stage]


@pytest.mark.parametrize("stage", STAGES)
def test_a_later_run_that_wrote_nothing_changes_nothing(lab: Lab, stage: str) -> None:
    lab.run(stage, "failed", writes=False)
    assert lab.outdated() == set()


@pytest.mark.parametrize("stage", STAGES)
def test_a_later_run_that_succeeded_and_wrote_nothing_changes_nothing(lab: Lab, stage: str) -> None:
    """Such as a training that was finished already."""
    lab.run(stage, writes=False)
    lab.run(stage, writes=False)
    assert lab.states() == dict.fromkeys(STAGES, "done")
    lab.run("eval")
    assert lab.states() == dict.fromkeys(STAGES, "done")
    lab.run(stage)
    assert lab.outdated() == SOURCES[stage]
    for name in SOURCES[stage]:
        assert f"{stage} has run again" in changes(History.read(lab.experiment), name)


@pytest.mark.parametrize("stage", ["collect", "train"])
def test_a_run_without_a_number_is_placed_by_its_time(tmp_path: Path, stage: str) -> None:
    lab = Lab(tmp_path / "old")
    for name in STAGES:
        lab.run(name, number=False)
    lab.run(stage, "cancelled", number=False)
    assert lab.outdated() == SOURCES[stage]


def test_what_is_removed_makes_what_comes_of_it_outdated(lab: Lab) -> None:
    for checkpoint in lab.experiment.checkpoints.glob("*.pt"):
        checkpoint.unlink()
    assert lab.outdated() == {"train", "eval"}


def test_another_evaluation_after_the_change_is_done(lab: Lab) -> None:
    lab.run("train", "cancelled")
    lab.run("eval")
    assert lab.states() == dict.fromkeys(STAGES, "done") | {"train": "cancelled"}
    lab.run("train", "cancelled")
    assert lab.outdated() == {"eval"}


def test_an_evaluation_of_a_stopped_training(tmp_path: Path) -> None:
    lab = Lab(tmp_path / "exp")
    for stage, state in (("collect", "succeeded"), ("train", "cancelled"), ("eval", "succeeded")):
        lab.run(stage, state)
    assert lab.states()["eval"] == "done"
    lab.run("teacher", "failed", writes=False)  # no baseline: the evaluation never had one
    assert lab.states()["eval"] == "done"
    lab.values["LR"] = "0.5"
    assert lab.states()["eval"] == "outdated"


def test_a_training_at_work_makes_the_evaluation_outdated_once_it_has_written(lab: Lab) -> None:
    lab.run("train", "running", writes=False)
    states = lab.states()
    assert (states["train"], states["eval"]) == ("running", "done")
    lab.run("train", "running")
    assert lab.states()["eval"] == "outdated"


@pytest.mark.parametrize("state", ["failed", "cancelled", "interrupted"])
@pytest.mark.parametrize("stage", STAGES)
def test_a_trial_of_other_settings_that_wrote_nothing_changes_nothing(lab: Lab, stage: str, state: str) -> None:
    before = History.read(lab.experiment).status(stage)
    kept, lab.values = lab.values, lab.values | {
        "TEACHER_PROVIDER": "groq", "LR": "0.5", "SEED": "7", "DRYRUN_LAYERS": "7"
    }  # fmt: skip
    lab.run(stage, state, writes=False)
    lab.run(stage, state, writes=False)
    lab.values = kept
    assert lab.states() == dict.fromkeys(STAGES, "done")
    assert History.read(lab.experiment).status(stage).last == before.last


@pytest.mark.parametrize("stage", STAGES)
def test_a_trial_that_wrote_something_or_had_the_same_settings_counts(lab: Lab, stage: str) -> None:
    kept, lab.values = lab.values, lab.values | {"SEED": "7", "TEACHER_PROVIDER": "groq"}
    lab.run(stage, "failed", writes=False)
    lab.run(stage, "failed")
    lab.run(stage, "failed", writes=False)
    lab.values = kept
    assert lab.states()[stage] == "failed"
    lab.run(stage)
    assert lab.states()[stage] == "done"
    lab.run(stage, "failed", writes=False)
    assert lab.states()[stage] == "failed"


def test_a_trial_does_not_hide_that_settings_changed(lab: Lab) -> None:
    kept, lab.values = lab.values, lab.values | {"LR": "0.5"}
    lab.run("train", "failed", writes=False)
    lab.values = kept | {"LR": "0.25"}
    assert lab.states()["train"] == "failed"


@pytest.mark.parametrize("stage", ["train", "eval", "pipeline"])
def test_changed_settings_are_named_with_both_values(lab: Lab, stage: str) -> None:
    lab.values["LR"] = "0.0625"
    assert changes(History.read(lab.experiment), stage) == ("LR 6e-4 → 0.0625",)
    assert changes(History.read(lab.experiment), "collect") == ()


def test_only_the_first_changes_are_named(lab: Lab) -> None:
    lab.values |= {"LR": "0.0625", "TOTAL_STEPS": "77", "BUDGET_TOKENS": "7777", "GRAD_CLIP_NORM": "3.5"}
    found = changes(History.read(lab.experiment), "train")
    assert len(found) == 4
    assert changed_words(found) == f"{', '.join(found[:3])}, and 1 more"
    assert changed_words(found[:3]) == ", ".join(found[:3])


def test_a_stage_that_ran_again_and_missing_files_are_told(lab: Lab) -> None:
    lab.run("train")
    for report in lab.experiment.reports.glob("mini_evaluation_report.json"):
        report.unlink()
    found = changes(History.read(lab.experiment), "eval")
    assert found == ("train has run again", "files of eval are missing")


def test_a_setting_of_a_later_version_is_told_once_it_is_set(lab: Lab) -> None:
    for entry in History.read(lab.experiment).entries:
        kept = {name: value for name, value in entry.record.settings.items() if name != "A4_POLICY"}
        entry.run.write(dataclasses.replace(entry.record, settings=kept))
    lab.values["A4_POLICY"] = "all"
    assert "made before A4_POLICY existed" in changes(History.read(lab.experiment), "train")


def test_a_long_value_is_left_out(lab: Lab) -> None:
    lab.values["TOKENIZER_NAME"] = "a-long-name.example.org/tokenizer"
    assert changes(History.read(lab.experiment), "collect") == ("TOKENIZER_NAME changed",)
