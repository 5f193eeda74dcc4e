"""What exports of a student have in common, whatever the format: what keeps it from other programs, and its facts.

`gguf.py` and `hf.py` add what theirs lacks.
"""

from collections.abc import Mapping
from typing import Any

from bitnet_core.errors import BitnetError
from bitnet_core.model.config import told_bits
from bitnet_core.model.generation import require_own_tokenizer
from bitnet_core.model.student import Student
from bitnet_core.tokenizer.student import StudentTokenizer


def require_exportable(student: Student, tokenizer: StudentTokenizer, runtime: str) -> None:
    """BitnetError for a student that `runtime` can't compute, that is not ternary, or that has another tokenizer."""
    if student.config.hadamard:
        raise BitnetError(
            f"{runtime} can't compute the Hadamard transform of this student; use it in this program, or train "
            "another one with STUDENT_HADAMARD=0."
        )
    if student.activation_bits is None:
        raise BitnetError("This student is a full-precision twin, not a ternary one; export a ternary student.")
    require_own_tokenizer(student, tokenizer)


def own_facts(student: Student, origin: Mapping[str, Any] | None) -> dict[str, Any]:
    """What an export records of its student beside its weights; `origin` goes before what the student tells."""
    return {
        "activation_bits": told_bits(student.layer_bits),
        "a4_policy": student.config.a4_policy,
        **(origin or {}),
    }
