"""What is better, by how much, whether that can be said, and what differs: of experiments and of single runs."""

import json
from pathlib import Path

import pytest

from bitnet_core.cli.main import main
from bitnet_core.errors import UsageError
from bitnet_core.results import finding
from bitnet_core.results.differing import changed_from_defaults
from bitnet_core.results.finding import reader_of
from bitnet_core.results.paired import COLUMNS
from bitnet_core.runs.experiment import Experiment, is_experiment
from bitnet_core.settings.resolve import resolve
from tests.results.trainings import STEPS, TOKENS, cells, compared, evaluated, made, trained, whole
from tests.tui.simulated import NOON, SimulatedRun


def test_a_difference_beyond_the_intervals_is_called_so(home: Path):
    whole(home, "base", 5.21)
    whole(home, "fast", 5.00, LR="1e-3", LOG_INTERVAL=7)
    found = compared(home, "base", "fast")
    assert found.sentence == (
        "B is better on held-out loss: 5.000 against A 5.210 (4.0% less). Setting that differs: "
        "LR (A 6e-4; B 1e-3). The difference is 0.21 nats per token. That is beyond the chance of the held-out "
        "prompts (95%: ±0.088)."
    )
    assert cells(found, "heldout_loss") == ["5.210", "5.000 *"]
    assert cells(found, "best_loss") == cells(found, "heldout_loss")
    assert [row.measure.name for row in found.shown] == [
        row.measure.name for row in found.rows if row.measure.name != "best_loss"
    ]
    assert cells(found, "qei") == ["1.30", "1.30"]
    assert cells(found, "cost") == ["$0.04", "$0.04"]
    assert [(one.name, one.stage) for one in found.differing] == [("LR", "train"), ("LOG_INTERVAL", "")]
    whole(home, "more", 5.00, BUDGET_TOKENS=19_999)
    assert compared(home, "more", "base").sentence.count("BUDGET_TOKENS (A 19,999; B 20,000)") == 1


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"half": 0.5}, "so it may be chance"),
        ({"SEED": "7"}, "Only the seed differs, so this is what chance does."),
        ({"KD_TAU": "1"}, "weighted differently (KD_TAU), so CE is compared instead"),
        ({"KD_WEIGHT": "2"}, "weighted differently (KD_WEIGHT), so CE is compared instead"),
    ],
)
def test_what_keeps_the_difference_from_being_told(home: Path, how: dict[str, object], words: str):
    whole(home, "base", 5.21)
    whole(home, "other", 5.00, **how)  # type: ignore[arg-type]
    said = compared(home, "base", "other").verdict
    assert words in said.reasons
    assert said.headline.startswith(
        "B looks better" if "weighted" not in words else "A and B are alike on held-out CE"
    )


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ({"tokens": 1980}, "they were measured on different texts (A 2,113 and B 1,980 held-out tokens)"),
        (
            {"TEACHER_PROVIDER": "openai", "OPENAI_MODEL": "gpt-x"},
            "their teachers differ (A embedded, B gpt-x)",
        ),
        (
            {"TEACHER_PROVIDER": "openai", "OPENAI_MODEL": "gpt-x", "collects": False},
            "it is not known whether their teachers are the same (A embedded, B not known)",
        ),
    ],
)
def test_nothing_measured_by_other_teachers_or_texts_is_called_better(home: Path, how: dict[str, object], why: str):
    whole(home, "base", 5.21, TEACHER_PROVIDER="embedded")
    whole(home, "other", 5.00, **{"TEACHER_PROVIDER": "embedded", **how})  # type: ignore[arg-type]
    found = compared(home, "base", "other")
    assert found.verdict.headline == (
        f"They can't be compared on held-out text: {why}. Each by its own measure: A: held-out loss 5.210, agreement "
        "20.0%; B: held-out loss 5.000, agreement 20.0%."
    )
    assert "better" not in found.sentence
    assert all(not row.best for row in found.rows if row.measure.by_teacher)


@pytest.mark.parametrize(
    ("other", "told"),
    [
        (
            {"TEACHER_PROVIDER": "custom", "CUSTOM_BASE_URL": "http://lab:1/v1", "CUSTOM_MODEL": "llama"},
            "(A llama of vllm, B llama of custom)",
        ),
        (
            {"TEACHER_BASE_URL": "http://other:8000/v1"},
            "(A llama of vllm at http://lab:8000/v1, B llama of vllm at http://other:8000/v1)",
        ),
        ({"TEACHER_MODEL": "other"}, "(A llama, B other)"),
        ({"VLLM_BASE_URL": "http://lab:8000/v1/"}, ""),
        ({"PROVIDER": "openai", "collects": False}, ""),
    ],
)
def test_teachers_are_the_same_only_with_one_provider_address_and_model(
    home: Path, other: dict[str, object], told: str
):
    vllm = {"TEACHER_PROVIDER": "vllm", "VLLM_BASE_URL": "http://lab:8000/v1", "VLLM_MODEL": "llama"}
    whole(home, "base", 5.21, **vllm)
    whole(home, "other", 5.00, **{**vllm, **other})  # type: ignore[arg-type]
    headline = compared(home, "base", "other").verdict.headline
    assert f"their teachers differ {told}." in headline if told else headline.startswith("B is better")


def test_layers_and_fit_of_a_student_that_starts_at_random_are_no_difference(home: Path):
    whole(home, "random", 5.21, STUDENT_INIT_FIT_STEPS=64)
    whole(home, "from", 5.00, STUDENT_INIT="teacher", STUDENT_INIT_LAYERS="2")
    assert [one.name for one in compared(home, "random", "from").differing] == ["STUDENT_INIT"]


def test_without_an_interval_it_is_said_which_to_evaluate(home: Path):
    whole(home, "base", 5.21)
    trained(made(home, "other"), 5.00)
    unknown = "For held-out loss it is not known yet whether chance alone could do that: "
    found = compared(home, "base", "other")
    assert f"{unknown}run teacher, then collect, then eval in B." in found.sentence
    assert cells(found, "heldout_loss") == ["5.210", "5.000"]
    trained(made(home, "third"), 5.10)
    for name in ("third", "other"):
        (home / name / "reports" / "teacher_baseline.json").write_text("{}")
        (home / name / "data" / "kd_shard_000.parquet").write_bytes(b"x")
    assert "run eval in A and B." in compared(home, "third", "other").sentence
    evaluated(reader_of("third", home).read().experiment, at=NOON - 100)  # of an older training
    runs = SimulatedRun(reader_of("third", home).read().experiment, "eval", NOON + 500, alive=True)
    try:
        said = compared(home, "third", "other").sentence
        assert f"{unknown}the evaluation of A still runs; run eval in B." in said
    finally:
        runs.end_process()


def test_a_difference_of_many_times_the_known_interval_needs_no_second_one(home: Path):
    whole(home, "base", 5.21)
    for loss, sure in ((4.65, True), (4.95, False)):
        trained(made(home, str(loss)), loss)
        found = compared(home, str(loss), "base").sentence
        times = "That is 9 times the chance of the held-out prompts, as the evaluation of B tells it (95%: ±0.062)."
        assert (found.startswith("A is better"), times in found) == (sure, sure)
        assert ("not known yet" in found) != sure


def test_nothing_is_made_of_a_difference_that_is_not_shown(home: Path):
    """Nor is the third one left out."""
    for name, loss in (("base", 5.21), ("same", 5.21), ("third", 5.30)):
        whole(home, name, loss)
    said = compared(home, "base", "same").sentence
    assert said.startswith("A and B are alike on held-out loss: 5.210. ") and "chance" not in said
    said = compared(home, "base", "third", "same").sentence
    assert said.startswith("A and C are alike on held-out loss: 5.210, against B 5.300. ")


def test_the_interval_of_a_weighted_loss_is_weighted_alike(home: Path):
    for name, loss in (("base", 5.21), ("other", 5.00)):
        whole(home, name, loss, KD_WEIGHT="10")
    assert "so it may be chance" in compared(home, "base", "other").sentence


def test_the_same_answers_are_compared_one_by_one(home: Path):
    """Each interval alone is far too wide to tell the two apart."""
    whole(home, "base", 5.21, half=0.5)
    whole(home, "fast", 5.00, half=0.5, LR="1e-3")
    for name, better in (("base", 0.0), ("fast", 0.1)):
        rows = [
            [50, 50 * (place - better), 50, 50 * (place - 1 - better * (place % 2)), 40] for place in range(2, 30)
        ]
        answers = {"columns": list(COLUMNS), "rows": rows}
        report = home / name / "reports" / "mini_evaluation_report.json"
        report.write_text(json.dumps({"imitation": {"answers": answers}}))
    said = compared(home, "base", "fast").sentence
    assert "beyond the chance of the held-out prompts (95%: ±0.01" in said


def test_the_spread_of_seeds_decides_where_there_is_one(home: Path):
    whole(home, "one", 5.20)
    whole(home, "two", 5.24, SEED="7")
    whole(home, "near", 5.18, LR="1e-3")
    whole(home, "far", 5.00, LR="1e-3")
    spread = compared(home, "one", "two", "near").sentence
    assert spread.startswith("C looks better on held-out loss: 5.180 against A 5.200 (0.4% less), B 5.240. ")
    assert "no more than what another seed changes here (0.040)" in spread
    assert "more than what another seed changes here (0.040)" in compared(home, "one", "two", "far").sentence
    assert "seed" not in compared(home, "one", "one", "near").sentence  # the same twice is no second seed


def test_what_is_not_measured_is_not_guessed(home: Path):
    made(home, "new")
    whole(home, "base", 5.21)
    trained(made(home, "half"), 5.3, last=STEPS // 2, state="cancelled")
    found = compared(home, "new", "base", "half")
    assert found.sentence.startswith(
        "C stopped early, so none is called better. "
        "After 10k tokens, where B and C were measured, held-out loss is B 7.210, C 7.300."
    )
    assert found.sentence.endswith("Seen so far: A none, B 20k, C 10k tokens.")
    assert not any("*" in cell for cell in cells(found, "heldout_loss"))
    assert cells(found, "qei") == ["–", "1.30", "–"]
    assert "A has no held-out loss yet." in compared(home, "new", "base", "base").sentence
    assert "nothing can be said" in compared(home, "new", "new").sentence


def test_a_setting_that_was_changed_in_the_middle_is_told_with_all_its_values(home: Path):
    """Also where both have the same now, and not of runs of which nothing is left."""
    whole(home, "whole", 5.2, LR="3e-4")
    cut = made(home, "cut", LR="6e-4")
    trained(cut, 5.2, last=13, state="cancelled")
    for at, rate, first, last in ((100, "9e-4", 13, 18), (200, "3e-4", 11, STEPS)):
        (cut.root / ".env").write_text(f"BUDGET_TOKENS={STEPS * TOKENS}\nLR={rate}\n")
        again = Experiment.from_settings(resolve({"BITNET_HOME": str(home)}, root=cut.root).settings)
        trained(again, 5.2, at=NOON + at, first=first, last=last)
    found = compared(home, "whole", "cut")
    assert [(one.name, one.values) for one in found.differing] == [("LR", ("3e-4", "6e-4 → 3e-4"))]
    assert "Setting that differs: LR (A 3e-4; B 6e-4, then 3e-4)." in found.sentence


def test_a_setting_without_effect_is_no_difference(home: Path):
    """As where another version had another default."""
    start = {"STUDENT_INIT": "teacher", "STUDENT_INIT_LAYERS": "0", "FLIP_POLICY": "hard"}
    whole(home, "base", 5.21, **start)
    whole(home, "again", 5.00, **start, STUDENT_INIT_FIT_STEPS=64, FLIP_RAMP_FRACTION=0.5, GROQ_MODEL="x")
    assert not compared(home, "base", "again").differing
    changed = changed_from_defaults(reader_of("again", home).read())
    assert {name for name, _, _ in changed} == {*start, "BUDGET_TOKENS"} - {"FLIP_POLICY"}
    whole(home, "kept", 5.00, **start | {"STUDENT_INIT_LAYERS": "2"}, STUDENT_INIT_FIT_STEPS=64)
    names = {one.name for one in compared(home, "base", "kept").differing}
    assert names == {"STUDENT_INIT_LAYERS"}


def test_a_changed_setting_makes_a_figure_outdated(home: Path):
    whole(home, "base", 5.21)
    whole(home, "other", 5.00)
    (home / "other" / ".env").write_text(f"BUDGET_TOKENS={STEPS * TOKENS}\nLR=0.01\n")
    found = compared(home, "base", "other")
    assert cells(found, "heldout_loss") == ["5.210", "5.000 *↻"]
    assert not found.differing  # the results were made with the same


def test_values_are_bounded_and_masked(home: Path, capsys: pytest.CaptureFixture[str]):
    whole(home, "base", 5.21)
    whole(home, "other", 5.00, CUSTOM_BASE_URL="http://me:hunter2hunter2@box/v1", TEMPLATE="x" * 500)
    assert main(["compare", "base", "other", "--set", f"BITNET_HOME={home}"]) == 0
    shown = capsys.readouterr().out
    assert "hunter2" not in shown
    assert "TEMPLATE (A unset; B xxx" in " ".join(shown.split())
    assert max(map(len, shown.splitlines())) <= 100


@pytest.mark.parametrize("many", [1, 9])
def test_fewer_than_two_and_more_than_eight_are_refused(home: Path, many: int):
    made(home, "one")
    with pytest.raises(UsageError, match="name 2 to 8"):
        compared(home, *["one"] * many)


def test_the_command_gives_a_table_and_json(home: Path, capsys: pytest.CaptureFixture[str]):
    whole(home, "base", 5.21)
    whole(home, "fast", 5.00, LR="1e-3")
    where = ["--set", f"BITNET_HOME={home}"]
    assert main(["compare", "base", "fast", *where]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("B is better")
    assert "5.000 *" in shown
    assert main(["compare", "base", "fast", "--json", *where]) == 0
    answer = json.loads(capsys.readouterr().out)
    results = {row["name"]: row["values"] for row in answer["results"]}
    assert results["heldout_loss"] == [5.21, 5.0]
    assert answer["settings"] == [{"name": "LR", "stage": "train", "values": ["6e-4", "1e-3"]}]
    assert main(["compare", "base", "none", *where]) == 2
    assert "none is neither an experiment" in capsys.readouterr().err


def test_a_setting_that_an_older_version_did_not_know_is_at_its_default(home: Path):
    whole(home, "old", 5.21)
    whole(home, "same", 5.21)
    whole(home, "set", 5.00, KD_TAU="2")
    path = next((home / "old" / "logs").glob("train-*")) / "run.json"
    record = json.loads(path.read_text())
    del record["settings"]["KD_TAU"], record["settings"]["MINI_PRESET"]
    path.write_text(json.dumps(record))
    assert not compared(home, "old", "same").differing
    assert [(one.name, one.values) for one in compared(home, "old", "set").differing] == [("KD_TAU", ("1.3", "2"))]


def test_a_folder_that_may_not_be_entered_is_said_to_be_closed(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    closed = home / "closed"
    closed.mkdir(parents=True)

    def no_entry(folder: Path) -> bool:
        if folder == closed:
            raise PermissionError(13, "Permission denied", str(folder / ".env"))
        return is_experiment(folder)

    monkeypatch.setattr(finding, "is_experiment", no_entry)
    assert main(["compare", str(closed), str(closed)]) == 1
    assert capsys.readouterr().err == (
        f"bitnet: {closed} can't be read (Permission denied); check its permissions.\n"
    )
