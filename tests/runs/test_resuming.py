"""Which settings may change in the middle of a training: the table, and the judgement against a slow twin."""

from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from bitnet_core.runs.resuming import (
    MAY_CHANGE,
    STARTS_AGAIN,
    UNTIL_FLIP,
    Reached,
    changes,
    judge,
    new_values,
    recipe,
    words,
)
from bitnet_core.settings.registry import REGISTRY
from bitnet_core.settings.resolve import from_values
from bitnet_core.settings.values import TrainOptions

OTHER = {
    "LR": "0.01", "SCHEDULER_ETA_MIN": "0.00001", "LR_SCHEDULE": "two_stage", "SCHEDULER_TMAX": "70",
    "TOTAL_STEPS": "90", "WEIGHT_DECAY": "0.5", "GRAD_CLIP_NORM": "3", "ADAM_EPS": "0.001",
    "FORMAT_LOSS_WEIGHT": "0.7", "ON_POLICY_FRACTION": "0.5", "TRAIN_BATCH_SIZE": "9", "GRAD_ACCUM_STEPS": "3",
    "MAX_SEQ_LEN": "99", "PACK_SEQUENCES": "0", "SEED": "5", "ADAM_BETA1": "0.5", "ADAM_BETA2": "0.5",
    "KD_TAU": "2", "KD_WEIGHT": "2", "KD_CE_WEIGHT": "2", "STUDENT_QUANTIZE": "0", "QUANT_RAMP_FRACTION": "0.1",
    "FLIP_POLICY": "ramp", "FLIP_FRACTION": "0.7", "ATTENTION_RELATION_WEIGHT": "2",
}  # fmt: skip
"""Another value of each setting of a recipe than its default."""
FOLLOWS = {"ON_POLICY_FRACTION": {"ON_POLICY_KL"}, "FLIP_POLICY": {"FLIP_RAMP_FRACTION"}}
"""What is part of a recipe only beside another setting."""
STEERS = {
    "LR", "SCHEDULER_ETA_MIN", "LR_SCHEDULE", "SCHEDULER_TMAX", "WEIGHT_DECAY", "GRAD_CLIP_NORM", "ADAM_EPS",
    "FORMAT_LOSS_WEIGHT", "ON_POLICY_FRACTION", "ON_POLICY_KL", "ATTENTION_RELATION_WEIGHT",
}  # fmt: skip
FLIPS = {"FLIP_POLICY", "FLIP_FRACTION", "FLIP_RAMP_FRACTION", "A4_POLICY"}
BUDGET = {"BUDGET_TOKENS": "1000", "STUDENT_INIT": "teacher"}


NAMES = st.sets(st.sampled_from(sorted(OTHER))).map(
    lambda names: names - {"QUANT_RAMP_FRACTION"} if "STUDENT_QUANTIZE" in names else names
)


def _recipe(values: dict[str, str], policy: str = "hybrid") -> tuple[TrainOptions, dict[str, Any]]:
    options = TrainOptions.of(from_values({**BUDGET, **values}))
    return options, recipe(options) | {"A4_POLICY": policy, "traces": "t"}


def test_each_setting_of_the_recipe_is_in_one_place_of_the_table() -> None:
    places = [*MAY_CHANGE, *UNTIL_FLIP, *STARTS_AGAIN]
    assert len(places) == len({*places})
    assert {*places} == {*recipe(TrainOptions()), "A4_POLICY"}
    assert {*places} <= {*REGISTRY}
    assert {*OTHER} | {*FOLLOWS["ON_POLICY_FRACTION"], *FOLLOWS["FLIP_POLICY"], "A4_POLICY"} == {*places}


@given(
    NAMES,
    st.booleans(),
    st.sampled_from(["hybrid", "all"]),
    st.integers(0, 1200),
    st.integers(0, 120),
    st.booleans(),
)
def test_what_a_change_does_to_a_checkpoint(
    names: set[str], traces: bool, policy: str, seen: int, step: int, flipped: bool
) -> None:
    kept = _recipe({})[1]
    options, wanted = _recipe({name: OTHER[name] for name in names}, policy)
    wanted |= {"traces": "others"} if traces else {}
    verdict = judge(Reached(step, seen, kept, flipped), wanted, options, 100)

    differs = {*names} | {one for name in names for one in FOLLOWS.get(name, ())}
    differs |= ({"A4_POLICY"} if policy == "all" else set()) | ({"traces"} if traces else set())
    flips_later = not flipped and seen <= (700 if "FLIP_FRACTION" in names else 900)
    barred = set()
    for name in differs - STEERS - {"TOTAL_STEPS"}:
        may = name in FLIPS and (flips_later or (name == "A4_POLICY" and not flipped))
        barred |= set() if may else {name}
    finished = seen >= 1000 or ("TOTAL_STEPS" in names and step >= 90)
    assert {*verdict.barred} == barred
    assert {*verdict.changed} == (differs & STEERS if finished else differs - barred)
    assert verdict.finished == finished
    assert verdict.goes_on == (not barred and not (finished and differs & STEERS))
    assert bool(verdict.why_not) == (not verdict.goes_on)
    for name, (before, after) in {**verdict.changed, **verdict.barred}.items():
        assert (before, after) == (kept[name], wanted[name])


@given(NAMES, st.sets(st.sampled_from(sorted(MAY_CHANGE))))
def test_what_an_older_version_did_not_keep_counts_as_unchanged(names: set[str], missing: set[str]) -> None:
    options, wanted = _recipe({name: OTHER[name] for name in names})
    kept = {name: value for name, value in wanted.items() if name not in missing - {"ON_POLICY_FRACTION"}}
    if not kept.get("ON_POLICY_KL"):
        kept.pop("ON_POLICY_KL", None)
    found = {*changes(kept, wanted)}
    # A version without one of these trained on no text of the student's, and without relations.
    assert found - {"ON_POLICY_KL"} == {"ATTENTION_RELATION_WEIGHT"} & missing & names
    assert not judge(Reached(0, 0, kept), wanted, replace(options, total_steps=None), 100).barred


def test_both_values_are_named() -> None:
    kept, (_, wanted) = _recipe({})[1], _recipe({"LR": "3e-4", "SCHEDULER_TMAX": "70"})
    assert words(changes(kept, wanted)) == "LR 6e-4 → 3e-4, SCHEDULER_TMAX unset → 70"
    assert new_values({"LR": 3e-4, "WEIGHT_DECAY": 0.05}) == "LR 3e-4 and WEIGHT_DECAY 0.05"
    assert new_values({"LR": "x" * 99}) == new_values(dict.fromkeys("abc", 1)) == "other settings"
    assert words({"BUDGET_TOKENS": (130_000, 9_000)}) == "BUDGET_TOKENS 130,000 → 9000"
    assert (
        words({"traces": ("a" * 64, "b" * 64), "TRAIN_ONLINE": ("", "b" * 64)}) == "the traces, TRAIN_ONLINE changed"
    )


@given(st.integers(1, 3000), st.integers(0, 1200), st.booleans(), st.sampled_from(["0.9", "0.7"]))
def test_another_budget_is_a_change_and_so_is_the_flip_that_it_moves(
    before: int, seen: int, flipped: bool, fraction: str
) -> None:
    kept, (options, wanted) = _recipe({})[1], _recipe({"FLIP_FRACTION": fraction})
    verdict = judge(Reached(9, seen, kept, flipped, {"tokens": before}), wanted, options, 100)
    told = seen < 1000 and before != 1000
    assert verdict.changed.get("BUDGET_TOKENS") == ((before, 1000) if told else None)
    moves = told or ("FLIP_FRACTION" in verdict.changed)
    flip_at = round(1000 * float(fraction))
    when = "it flips at once" if seen >= flip_at else f"its flip is at {flip_at} tokens"
    assert verdict.flip == (when if moves and not flipped else "")
    assert "BUDGET_TOKENS" not in verdict.barred
