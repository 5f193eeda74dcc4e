"""The dry run stage at small shapes: its report, and refusals before any work."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from bitnet_core.errors import BitnetError, UsageError
from bitnet_core.evaluation import passes, random_student
from bitnet_core.evaluation.random_student import layer_bytes, needed_bytes, wanted_shape
from bitnet_core.runs.context import StageContext
from bitnet_core.settings.values import DryRunOptions
from bitnet_core.stages import dryrun
from tests.builders import emitted, stage_context

SMALL = {
    "DRYRUN_DIM": "256",
    "DRYRUN_LAYERS": "3",
    "DRYRUN_HEADS": "4",
    "DRYRUN_HEAD_DIM": "64",
    "DRYRUN_SEQ_LEN": "8",
    "DRYRUN_FORCE_CPU": "1",
}


@pytest.fixture
def ctx(tmp_path: Path) -> Iterator[StageContext]:
    yield stage_context(tmp_path / "e", "dryrun", SMALL)


def test_the_stage(ctx: StageContext) -> None:
    summary = dryrun.run(ctx)
    report = json.loads((ctx.experiment.reports / "dryrun_7b_memory.json").read_text())
    assert report["downgraded"] is False
    assert report["parameters"] == summary["parameters"] > 32_000 * 256
    assert report["weights_bytes"] < 0.4 * report["fp32_weights_bytes"] + 4 * 32_000 * 256
    assert [one["activation_bits"] for one in report["passes"]] == [8, 4]
    assert all(one["seconds"] > 0 and one["peak_bytes"] > report["weights_bytes"] for one in report["passes"])
    assert report["difference"]["hidden_relative"] > 0
    assert "random" in report["difference"]["weights"]
    assert all(one["layer_check"]["error"] < 0.01 * one["layer_check"]["one_bit_less"] for one in report["passes"])
    events = emitted(ctx)
    tables = {event["name"]: event for event in events if event["kind"] == "table"}
    assert set(tables) == {"memory", "passes"}
    for table in tables.values():
        assert all(len(row) == len(table["columns"]) for row in table["rows"])
    assert sum("random weights" in column for column in tables["passes"]["columns"]) == 2


def test_progress_counts_the_whole(ctx: StageContext, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[float, float | None, str]] = []
    monkeypatch.setattr(ctx, "progress", lambda done, total, _unit, label: told.append((done, total, label)))
    dryrun.run(ctx)
    assert [done for done, _, _ in told] == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
    assert {total for _, total, _ in told} == {9}
    assert list(dict.fromkeys(label for _, _, label in told)) == ["build", "forward 1 at A8", "forward 2 at A4"]


def test_short_memory_takes_layers_away_and_says_so(ctx: StageContext, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = wanted_shape(DryRunOptions.of(ctx.settings))
    room = needed_bytes(whole, 8) - layer_bytes(whole)
    monkeypatch.setattr(random_student, "available_bytes", lambda: int(room / 0.85) + 1)
    assert dryrun.run(ctx)["layers"] == 2
    report = json.loads((ctx.experiment.reports / "dryrun_7b_memory.json").read_text())
    assert (report["downgraded"], report["wanted_layers"], report["shape"]["num_hidden_layers"]) == (True, 3, 2)
    alerts = emitted(ctx, "alert")
    assert "2 of 3 layers" in alerts[0]["message"]


@pytest.mark.parametrize("values", [{"DRYRUN_ALLOW_DOWNGRADE": "0"}, {"DRYRUN_ALLOW_DOWNGRADE": "1"}], ids=str)
def test_no_room_is_refused_before_anything_is_built(
    tmp_path: Path, values: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object) -> None:
        raise AssertionError("it was built")

    monkeypatch.setattr(random_student, "available_bytes", lambda: 1 << 20)
    monkeypatch.setattr(passes, "build", never)
    with pytest.raises(BitnetError, match="DRYRUN_LAYERS"):
        dryrun.run(stage_context(tmp_path / "e", "dryrun", SMALL | values))


@pytest.mark.parametrize(
    ("values", "name"),
    [({"DRYRUN_DIM": "300"}, "DRYRUN_DIM"), ({"DRYRUN_HEADS": "5"}, "DRYRUN_HEADS")],
    ids=["dim", "heads"],
)
def test_a_shape_that_does_not_fit_together_is_refused(tmp_path: Path, values: dict[str, str], name: str) -> None:
    with pytest.raises(UsageError, match=name):
        dryrun.run(stage_context(tmp_path / "e", "dryrun", SMALL | values))


def test_a_stop_ends_it_between_layers(ctx: StageContext) -> None:
    ctx.request_stop()
    with pytest.raises(BitnetError, match="stopped"):
        dryrun.run(ctx)
