"""The settings that decide nothing beside the values of others. Light: the app asks it."""

from collections.abc import Mapping
from typing import Any

from bitnet_core.settings.layers import keeps_no_layers
from bitnet_core.settings.registry import PROVIDER_NAMES

_NAME_A_TEACHER = {"PROVIDER", "TEACHER_PROVIDER"} | {
    f"{name.upper()}_{suffix}" for name in ("teacher", *PROVIDER_NAMES) for suffix in ("MODEL", "BASE_URL")
}

_OF_LAYERS = frozenset({"STUDENT_INIT_FIT_STEPS", "STUDENT_INIT_EMBEDDING"})
"""What is asked of the layers that a student keeps of a model."""


def unused(values: Mapping[str, Any]) -> frozenset[str]:
    """The settings that change no stage's result while the others have these values, as a record has them."""
    found = set(_of_teacher(values) | unused_of_start(values))
    if values.get("FLIP_POLICY") == "hard":
        found.add("FLIP_RAMP_FRACTION")
    if not values.get("ON_POLICY_FRACTION"):
        found.add("ON_POLICY_KL")
    return frozenset(found)


def unused_of_start(values: Mapping[str, Any]) -> frozenset[str]:
    """Those of the student's first weights and shape; the values may also be as a `.env` has them."""
    if (values.get("STUDENT_INIT") or "random") == "random":
        return frozenset({"STUDENT_INIT_LAYERS", *_OF_LAYERS})
    own_shape = keeps_no_layers(str(values.get("STUDENT_INIT_LAYERS") or ""))
    return _OF_LAYERS if own_shape else frozenset({"MINI_PRESET"})


def _of_teacher(values: Mapping[str, Any]) -> frozenset[str]:
    """The settings of models and addresses that `teachers.identity.identify` does not look at."""
    provider = str(values.get("TEACHER_PROVIDER") or values.get("PROVIDER") or "")
    used = {"TEACHER_PROVIDER"} if values.get("TEACHER_PROVIDER") else {"TEACHER_PROVIDER", "PROVIDER"}
    suffixes: dict[str, tuple[str, ...]] = {"embedded": (), "hf": ("MODEL",)}
    for suffix in suffixes.get(provider, ("MODEL", "BASE_URL")):
        own = f"TEACHER_{suffix}"
        used |= {own} if values.get(own) else {own, f"{provider.upper()}_{suffix}"}
    return frozenset(_NAME_A_TEACHER - used)
