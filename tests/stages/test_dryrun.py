"""The dry run at small shapes: valid codes, nothing in fp32, truth about memory, and refusals before any work."""

import json
import math
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from bitnet_core.errors import BitnetError, UsageError
from bitnet_core.evaluation import dryrun as library
from bitnet_core.evaluation import memory
from bitnet_core.evaluation.dryrun import build, compare, components, fit, forward, needed_bytes, random_codes
from bitnet_core.model.config import StudentConfig
from bitnet_core.model.packing import unpack, weight_bytes
from bitnet_core.process import rss_bytes
from bitnet_core.runs.context import StageContext
from bitnet_core.stages import dryrun
from tests.builders import events_of

SMALL = {
    "DRYRUN_DIM": "256",
    "DRYRUN_LAYERS": "3",
    "DRYRUN_HEADS": "4",
    "DRYRUN_HEAD_DIM": "64",
    "DRYRUN_SEQ_LEN": "8",
    "DRYRUN_FORCE_CPU": "1",
}
IDS = torch.arange(16).view(2, 8)


@pytest.fixture
def shape() -> StudentConfig:
    return StudentConfig(
        vocab_size=500,
        hidden_size=256,
        intermediate_size=768,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=32,
    )


def test_random_bytes_are_codes() -> None:
    packed = random_codes(1001, 1203, torch.Generator().manual_seed(1))
    fields = [(packed >> shift) & 3 for shift in (0, 2, 4, 6)]
    assert max(int(field.max()) for field in fields) == 2, "3 is no code"
    codes = unpack(packed, 1001)
    shares = [float((codes == value).double().mean()) for value in (-1, 0, 1)]
    assert shares == pytest.approx([0.25, 0.5, 0.25], abs=0.002)
    # No pattern runs through rows or columns.
    spread = math.sqrt(0.5)
    assert codes.double().mean(0).abs().max() < 6 * spread / math.sqrt(1001)
    assert codes.double().mean(1).abs().max() < 6 * spread / math.sqrt(1203)


def test_a_seed_decides_the_student(shape: StudentConfig) -> None:
    first, again, other = (build(shape, seed, "cpu").state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first if name.endswith("packed"))


def test_no_tensor_of_a_layer_is_wider_than_two_bits(shape: StudentConfig) -> None:
    student = build(shape, 0, "cpu")
    sizes = dict(components(student))
    linears = sum(rows * columns for rows, columns in shape.linear_shapes().values())
    norms = 3 * 256 + 768
    names = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    assert sum(sizes[name] for name in names) == 3 * (linears // 4 + 7 * 4)
    assert sizes["norms"] == 4 * (3 * norms + 256)
    assert sum(sizes.values()) == weight_bytes(student)["total"]
    assert 3 * library.layer_bytes(shape) == 3 * (linears // 4 + 7 * 4 + 4 * norms)


def test_both_widths_run_and_differ(shape: StudentConfig) -> None:
    student = build(shape, 0, "cpu")
    told: list[int] = []
    at_8, at_4 = forward(student, IDS, 8, told.append), forward(student, IDS, 4)
    assert told == [1, 2, 3]
    assert at_8.hidden_BTD.shape == (2, 8, 256)
    assert compare(at_8, forward(student, IDS, 8)).relative == 0
    difference = compare(at_8, at_4)
    assert 0.01 < difference.relative < 1.5
    assert not student.model.layers[0]._forward_hooks, "hooks stay for one pass only"


def test_what_is_not_finite_is_told(shape: StudentConfig) -> None:
    student = build(shape, 0, "cpu")
    student.model.norm.weight[0] = math.inf
    with pytest.raises(BitnetError, match="not finite"):
        forward(student, IDS, 8)


def test_a_7b_shape_fits_into_four_gigabytes_on_paper() -> None:
    shape = StudentConfig(32_000, 4096, library.feed_forward_size(4096), 32, 32, 32, 2048)
    assert shape.intermediate_size == 11008
    assert shape.parameters() == pytest.approx(6.6e9, rel=0.01)
    assert needed_bytes(shape, 64) < 2.6e9


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_fit_takes_as_many_layers_as_there_is_room_for(shape: StudentConfig, layers: int) -> None:
    from dataclasses import replace

    target = replace(shape, num_hidden_layers=layers)
    exact = needed_bytes(target, 16)
    assert fit(shape, 16, exact) == target
    smaller = fit(shape, 16, exact - 1)
    assert smaller == (replace(shape, num_hidden_layers=layers - 1) if layers > 1 else None)


@pytest.fixture
def ctx(tmp_path: Path) -> Iterator[StageContext]:
    yield StageContext.for_tests(tmp_path / "e", "dryrun", SMALL)


def test_the_stage(ctx: StageContext) -> None:
    summary = dryrun.run(ctx)
    report = json.loads((ctx.experiment.reports / "dryrun_7b_memory.json").read_text())
    assert report["downgraded"] is False
    assert report["parameters"] == summary["parameters"] > 32_000 * 256
    assert report["weights_bytes"] < 0.4 * report["fp32_weights_bytes"] + 4 * 32_000 * 256
    assert [one["activation_bits"] for one in report["passes"]] == [8, 4]
    assert all(one["seconds"] > 0 and one["peak_bytes"] > report["weights_bytes"] for one in report["passes"])
    assert report["difference"]["hidden_relative"] > 0
    events = events_of(ctx.run_dir / "events.jsonl")
    tables = {event["name"]: event for event in events if event["kind"] == "table"}
    assert set(tables) == {"memory", "passes"}
    for table in tables.values():
        assert all(len(row) == len(table["columns"]) for row in table["rows"])
    labels = {event["label"] for event in events if event["kind"] == "progress"}
    assert labels == {"build", "forward 1 at A8", "forward 2 at A4"}


def test_short_memory_takes_layers_away_and_says_so(ctx: StageContext, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = dryrun._shape(ctx.settings)
    room = needed_bytes(whole, 8) - library.layer_bytes(whole)
    monkeypatch.setattr(dryrun, "available_bytes", lambda: int(room / 0.85) + 1)
    assert dryrun.run(ctx)["layers"] == 2
    report = json.loads((ctx.experiment.reports / "dryrun_7b_memory.json").read_text())
    assert (report["downgraded"], report["wanted_layers"], report["shape"]["num_hidden_layers"]) == (True, 3, 2)
    alerts = [e for e in events_of(ctx.run_dir / "events.jsonl") if e["kind"] == "alert"]
    assert "2 of 3 layers" in alerts[0]["message"]


@pytest.mark.parametrize("values", [{"DRYRUN_ALLOW_DOWNGRADE": "0"}, {"DRYRUN_ALLOW_DOWNGRADE": "1"}], ids=str)
def test_no_room_is_refused_before_anything_is_built(
    tmp_path: Path, values: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object) -> None:
        raise AssertionError("it was built")

    monkeypatch.setattr(dryrun, "available_bytes", lambda: 1 << 20)
    monkeypatch.setattr(dryrun, "build", never)
    with pytest.raises(BitnetError, match="DRYRUN_LAYERS"):
        dryrun.run(StageContext.for_tests(tmp_path / "e", "dryrun", SMALL | values))


@pytest.mark.parametrize(
    ("values", "name"),
    [({"DRYRUN_DIM": "300"}, "DRYRUN_DIM"), ({"DRYRUN_HEADS": "5"}, "DRYRUN_HEADS")],
    ids=["dim", "heads"],
)
def test_a_shape_that_does_not_fit_together_is_refused(tmp_path: Path, values: dict[str, str], name: str) -> None:
    with pytest.raises(UsageError, match=name):
        dryrun.run(StageContext.for_tests(tmp_path / "e", "dryrun", SMALL | values))


def test_a_stop_is_heard_between_layers(ctx: StageContext) -> None:
    ctx.request_stop()
    with pytest.raises(BitnetError, match="stopped"):
        dryrun.run(ctx)


def test_building_takes_little_more_than_the_student() -> None:
    shape = StudentConfig(1000, 1024, 2816, 40, 8, 8, 32)
    build(
        StudentConfig(1000, 1024, 2816, 1, 8, 8, 32), 0, "cpu"
    )  # what torch imports on the way is not the student's
    before = rss_bytes()
    with memory.peak_rss() as peak:
        student = build(shape, 0, "cpu")
    total = sum(dict(components(student)).values())
    assert total > 100e6
    assert peak.bytes - before < total * 1.15 + (16 << 20)
