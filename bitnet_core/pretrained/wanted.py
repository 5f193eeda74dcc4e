"""What the settings alone say of a student's start, and whether training could begin so. It must not import torch."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from bitnet_core.errors import BitnetError, UsageError
from bitnet_core.model.presets import student_config
from bitnet_core.pretrained.located import configuration, located
from bitnet_core.settings.layers import keeps_no_layers, kept_layers
from bitnet_core.settings.presets import EMBEDDED_LAYERS
from bitnet_core.settings.resolved import Settings
from bitnet_core.settings.values import (
    Embedding,
    InitOptions,
    OnlineOptions,
    StudentOptions,
    TeacherOptions,
    TrainOptions,
)
from bitnet_core.teachers.embedded.files import MODEL_NAME, VOCABULARY
from bitnet_core.teachers.identity import Identity, identify

OTHERWISE = "train on its traces (TRAIN_ONLINE=0)"
"""What to do if the teacher can't be asked while training."""
_TEACHER = "teacher"


@dataclass(frozen=True)
class Wanted:
    """A model by the text that names it, and the layers to keep as the user writes them."""

    model: str
    """Empty for the embedded teacher."""
    layers: str
    fit_steps: int = 0
    """Steps in which the student is fitted to the model before training."""
    embedding: Embedding = "trained"
    """The type of llama.cpp in which its embedding is kept, if it is not trained."""

    @property
    def name(self) -> str:
        return self.model or MODEL_NAME

    @property
    def embedding_alone(self) -> bool:
        """Whether no layer is kept: the student has a shape of its own."""
        return keeps_no_layers(self.layers)

    def settings(self) -> dict[str, Any]:
        """What identifies this start among a training's recipe."""
        return {
            "STUDENT_INIT": self.name,
            "STUDENT_INIT_LAYERS": self.layers,
            "STUDENT_INIT_FIT_STEPS": self.fit_steps,
            "STUDENT_INIT_EMBEDDING": self.embedding,
        }


def wanted(init: InitOptions, teacher: TeacherOptions) -> Wanted | None:
    """What the settings ask for; None for random weights. BitnetError for a teacher whose weights are elsewhere."""
    if not init.names_model:
        return None
    found = Wanted(init.source, init.layers)
    if not found.embedding_alone:
        found = replace(found, fit_steps=init.fit_steps, embedding=init.embedding)
    if init.source != _TEACHER:
        return found
    identity = identify(teacher)
    if not _is_here(identity):
        raise BitnetError(
            f"STUDENT_INIT=teacher needs the teacher's weights, and those of {identity.model} are at "
            f"{identity.provider.name}; name a folder, a .gguf file or a model on the hub in STUDENT_INIT, or set "
            "random."
        )
    return replace(found, model="" if identity.provider.name == "embedded" else identity.model)


def require_no_sizes(options: StudentOptions) -> None:
    """UsageError for sizes of a student whose shape comes from a model."""
    given: Mapping[str, object] = {
        "MINI_DIM": options.hidden_size,
        "MINI_LAYERS": options.layers,
        "MINI_HEADS": options.heads,
        "MINI_HEAD_DIM": options.head_dim,
    }
    if odd := next((name for name, value in given.items() if value is not None), None):
        fix = "keep layers with STUDENT_INIT_LAYERS" if odd == "MINI_LAYERS" else f"leave {odd} empty"
        raise UsageError(f"{odd} is set and the shape comes from STUDENT_INIT; {fix}.")
    if options.profile != "portable":
        raise UsageError(
            f"STUDENT_PROFILE is {options.profile} and STUDENT_INIT names a model with SiLU; set STUDENT_PROFILE="
            "portable."
        )


def require_possible(settings: Settings) -> None:
    """UsageError or BitnetError for settings with which training would refuse to begin, whatever the traces are."""
    options, teacher = TrainOptions.of(settings), TeacherOptions.of(settings)
    start, student = wanted(options.init, teacher), StudentOptions.of(settings)
    if start is None or start.embedding_alone:
        student_config(student, VOCABULARY, options.max_seq_len)
    else:
        require_no_sizes(student)
    if start is not None:
        _require_layers(start, options.init)
    if OnlineOptions.of(settings).online:
        online_teacher(teacher)
    elif options.on_policy.fraction:
        raise nobody_scores(options.on_policy.fraction)


def _require_layers(start: Wanted, init: InitOptions) -> None:
    """BitnetError if the model is not there. UsageError if it is and lacks layers that are to be kept."""
    try:
        total = _layers_there(start.model)
    except BitnetError:
        if init.source == _TEACHER:
            return  # the stage of the teacher opens it first, and names the teacher's own settings
        raise
    if total is not None and start.layers and not start.embedding_alone:
        kept_layers(start.layers, total)


def _layers_there(model: str) -> int | None:
    """How many layers a model has; None if only its weights say so, or it is on the hub."""
    if not model:
        return EMBEDDED_LAYERS
    path = located(model)
    found = configuration(path) if path is not None and path.is_dir() else None
    total = found.get("num_hidden_layers") if isinstance(found, dict) else None
    return total if type(total) is int else None


def nobody_scores(fraction: float) -> UsageError:
    """That what the student writes in this share of the steps would be scored by nobody."""
    return UsageError(
        f"ON_POLICY_FRACTION is {fraction:g}, and only a teacher that is asked while training can score what the "
        "student writes; set TRAIN_ONLINE=1, or ON_POLICY_FRACTION=0."
    )


def online_teacher(teacher: TeacherOptions) -> Identity:
    """The teacher that TRAIN_ONLINE asks. UsageError if its weights are elsewhere."""
    identity = identify(teacher)
    if not _is_here(identity):
        raise UsageError(
            f"TRAIN_ONLINE asks a teacher whose weights are on this machine, and {identity.model} is at "
            f"{identity.provider.name}; set TEACHER_PROVIDER=hf and a TEACHER_MODEL, or {OTHERWISE}."
        )
    return identity


def _is_here(identity: Identity) -> bool:
    """Whether the teacher's weights are on this machine."""
    return identity.provider.name == "embedded" or identity.provider.wire == "transformers"
