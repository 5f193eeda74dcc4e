"""The presets by name, and the models whose shape they are. Their sizes are in `model/presets.py`."""

TRAINED = ("nano", "mini", "smollm2-135m", "360m", "1b", "2b4t")
"""What MINI_PRESET may be."""
PLANNED = (*TRAINED, "7b")
"""What `bitnet plan` also knows: no setting makes so large a student."""
OWN_WEIGHTS = {
    "smollm2-135m": "HuggingFaceTB/SmolLM2-135M-Instruct",
    "360m": "HuggingFaceTB/SmolLM2-360M-Instruct",
}
"""The models on the hub of these very shapes, which a student can start from (STUDENT_INIT)."""
EMBEDDED = "smollm2-135m"
"""The shape of the embedded teacher."""
EMBEDDED_LAYERS = 30
"""How many layers the embedded teacher has."""


def own_weights(preset: str, teacher: str) -> str:
    """The STUDENT_INIT with the weights of the model whose shape the preset is; empty if there is none.

    `teacher` is the teacher's provider: the embedded one needs no hub.
    """
    return "teacher" if (preset, teacher) == (EMBEDDED, "embedded") else OWN_WEIGHTS.get(preset, "")
