"""Typed groups: every field has the type of its setting, and the registry's default when a group is made by hand."""

import dataclasses
import re
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitnet_core.errors import UsageError
from bitnet_core.settings.group import Group
from bitnet_core.settings.kinds import as_written, with_thousands
from bitnet_core.settings.registry import REGISTRY
from bitnet_core.settings.resolve import from_values
from bitnet_core.settings.resolved import Settings
from bitnet_core.settings.values import FlipOptions, LossWeights, TeacherOptions, TrainOptions, settings_in_use

KINDS = {"int": int, "float": float, "bool": bool, "text": str, "path": Path, "layers": str}


def single_fields() -> list[Any]:
    return [
        pytest.param(get_type_hints(group)[item.name], *item.metadata["names"], id=f"{group.__name__}.{item.name}")
        for group in Group.__subclasses__()
        for item in dataclasses.fields(group)
        if len(item.metadata["names"]) == 1
    ]


@pytest.mark.parametrize(("hint", "name"), single_fields())
def test_a_field_has_the_type_of_its_setting(hint: Any, name: str) -> None:
    setting = REGISTRY[name]
    if get_origin(hint) is Literal:
        assert get_args(hint) == setting.choices
        return
    kinds = set(get_args(hint)) or {hint}
    assert kinds - {type(None)} == {KINDS[setting.kind]}
    if not setting.default:
        assert type(None) in kinds or setting.kind in ("text", "layers")


def test_a_group_made_by_hand_equals_the_one_of_default_settings() -> None:
    filled = TrainOptions.of(from_values({}))
    assert TrainOptions() == filled


def test_values_reach_their_fields() -> None:
    options = TrainOptions.of(from_values({"KD_TAU": "2.5", "TOTAL_STEPS": "7", "FLIP_POLICY": "ramp"}))
    assert (options.loss.tau, options.total_steps, options.rate.steps, options.flip.policy) == (2.5, 7, None, "ramp")


def test_settings_per_provider_are_found_by_its_name() -> None:
    options = TeacherOptions.of(from_values({"OPENAI_MODEL": "gpt-4o-mini", "VLLM_BASE_URL": "http://box:8000/v1"}))
    assert options.models == {"openai": "gpt-4o-mini"}
    assert options.addresses == {"vllm": "http://box:8000/v1"}
    assert options.chosen == "embedded"


def test_a_required_setting_that_is_empty_is_named() -> None:
    record = from_values({}).to_record() | {"KD_TAU": None}
    with pytest.raises(UsageError, match="KD_TAU is not set"):
        TrainOptions.of(Settings.from_record(record, {}))


def test_a_temperature_of_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="tau is 0"):
        LossWeights(tau=0)


def test_the_flip_is_computed_in_decimals() -> None:
    assert FlipOptions(budget_tokens=100, fraction=0.29).threshold == 29


def test_settings_that_nothing_reads_are_not_in_use() -> None:
    unused = set(REGISTRY) - settings_in_use()
    assert unused >= {"AMP_BACKEND", "WANDB_PROJECT", "ICLOUD_SESSION_TOKEN"}
    assert not unused & {"STORAGE_BACKEND", "S3_BUCKET", "AWS_SECRET_ACCESS_KEY", "AUTO_MOUNT_GDRIVE"}
    assert not unused & {"KD_TAU", "OPENAI_MODEL", "HF_MODEL", "MINI_HEAD_DIM", "HF_HOME", "LOG_LEVEL"}
    assert not unused & {"OPENAI_API_KEY", "HF_TOKEN", "TEACHER_API_KEY", "CUSTOM_API_KEY"}


def test_every_field_is_read_somewhere() -> None:
    """A field that nothing reads would hide that its setting has no effect yet."""
    root = Path(__file__).parents[2]
    files = [path for package in ("bitnet_core", "bitnet_tui") for path in (root / package).rglob("*.py")]
    code = "\n".join(path.read_text(encoding="utf-8") for path in files if path.parent.name != "settings")
    for group in Group.__subclasses__():
        for item in dataclasses.fields(group):
            assert re.search(rf"\.{item.name}\b", code), item.name


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"KD_WEIGHT": "0", "ON_POLICY_FRACTION": "1"}, "ON_POLICY_FRACTION=1 leaves"),
        (
            {"KD_WEIGHT": "0", "KD_CE_WEIGHT": "0", "FORMAT_LOSS_WEIGHT": "0"},
            "KD_CE_WEIGHT=0 and FORMAT_LOSS_WEIGHT=0",
        ),
    ],
)
def test_a_training_without_any_loss_is_refused(values: dict[str, str], named: str) -> None:
    with pytest.raises(
        UsageError, match=rf"With KD_WEIGHT=0 nothing would be learnt here: {named}.*raise KD_WEIGHT\.$"
    ):
        TrainOptions.of(from_values(values))
    for kept in values:
        TrainOptions.of(from_values({name: value for name, value in values.items() if name != kept}))


def test_layers_of_no_model_are_refused_before_any_stage_works_for_them() -> None:
    with pytest.raises(UsageError, match=r"STUDENT_INIT names none; set STUDENT_INIT, or leave STUDENT_INIT_LAYERS "):
        TrainOptions.of(from_values({"STUDENT_INIT_LAYERS": "0"}))
    TrainOptions.of(from_values({"STUDENT_INIT_LAYERS": "0", "STUDENT_INIT": "teacher"}))


@pytest.mark.parametrize("text", ["six", "-1", "1.5", "3,", "2,1", "1,1", "²", "1234567"])
def test_layers_that_are_no_numbers_in_rising_order_are_refused_where_they_are_read(text: str) -> None:
    with pytest.raises(UsageError, match=r"STUDENT_INIT_LAYERS.* must be a number, or numbers in rising order"):
        from_values({"STUDENT_INIT": "teacher", "STUDENT_INIT_LAYERS": text})
    assert from_values({"STUDENT_INIT_LAYERS": "0, 2"}).values["STUDENT_INIT_LAYERS"] == "0, 2"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (5e-5, "5e-5"),
        (0.00015, "1.5e-4"),
        (0.003, "3e-3"),
        (0.01, "0.01"),
        (0.01, "0.01"),
        (2.0, "2"),
        (1.3, "1.3"),
        (-2e-8, "-2e-8"),
        (0.0, "0"),
        (123456.0, "123456"),
        (60000, "60000"),
        (True, "1"),
        (None, ""),
    ],
)
def test_a_value_is_written_as_people_type_it(value: object, text: str):
    assert as_written(value) == text


@given(st.floats(allow_nan=False))
def test_what_is_written_of_a_number_reads_as_the_same(value: float):
    assert float(as_written(value)) == value


def test_long_whole_numbers_alone_are_read_with_thousands():
    texts = ("60000", "9999", "0600000", "1.5", "gpt-40000", "-60000", "")
    assert [*map(with_thousands, texts)] == ["60,000", "9999", "0600000", "1.5", "gpt-40000", "-60000", ""]
