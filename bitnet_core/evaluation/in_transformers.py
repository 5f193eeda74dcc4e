"""What transformers makes of a student, for the card at the end of an evaluation; or why it was not tried."""

from collections.abc import Callable
from pathlib import Path

from bitnet_core.errors import BitnetError, Stopped
from bitnet_core.export import card, hf, verify
from bitnet_core.export.card import Row
from bitnet_core.export.running import TRANSFORMERS, RuntimeMissing, require_accelerate
from bitnet_core.export.verify import Answers
from bitnet_core.files.half_written import scratch_beside
from bitnet_core.model.packing import weight_bytes
from bitnet_core.model.student import Student
from bitnet_core.process import available_bytes
from bitnet_core.teachers.opening import Host
from bitnet_core.text import size
from bitnet_core.tokenizer.student import StudentTokenizer

_MOST_PARAMETERS = 500_000_000
"""Half a minute on two processors; the answers of a larger student take minutes."""
_PROGRAM_BYTES = 600_000_000
"""torch and transformers in memory (410 MB on Linux), and what their allocator keeps."""
_NOT_THE_STUDENT = "What transformers computes is not the student's; `bitnet export hf` compares more."


def row_in_transformers(
    packed: Student, tokenizer: StudentTokenizer, answers: Callable[[], Answers], host: Host, scratch: Path
) -> Row:
    """Export a packed student into `scratch` for a moment, and run it in a process of its own, like an export.

    `answers` are the student's own. It is not tried where it would need more memory than is free, or minutes.
    """
    try:
        hf.require_computable(packed, tokenizer)
        require_accelerate("the student")
    except RuntimeMissing as error:
        return card.unverified(TRANSFORMERS, str(error))
    except BitnetError as error:
        return card.refused(TRANSFORMERS, str(error))
    if why := _too_large(packed):
        return card.unverified(TRANSFORMERS, f"{why}; `bitnet export hf` tries it.")
    try:
        own = answers()
    except Stopped:
        raise
    except BitnetError as error:  # it says nothing of transformers
        return card.unverified(TRANSFORMERS, str(error))
    try:
        host.progress(0, None, "steps", "comparing with transformers")
        with scratch_beside(scratch / "in-transformers") as folder:
            path = folder / "student-hf"
            hf.write(packed, tokenizer, path)
            verified = verify.verify_folder(path, packed, tokenizer, own, host.check_stop)
    except Stopped:
        raise
    except BitnetError as error:
        return card.refused(TRANSFORMERS, str(error))
    for problem in verified.problems():
        host.alert("warning", "not_the_student", f"{problem.what}.", _NOT_THE_STUDENT)
    return card.row_of(verified)


def needed_bytes(packed: Student) -> int:
    """What that process takes at most: the file as mapped, the weights in fp32 as they are unpacked, the program."""
    return weight_bytes(packed)["total"] + 4 * packed.config.parameters() + _PROGRAM_BYTES


def _too_large(packed: Student) -> str:
    """Why a student is not run there; an empty text for one that is."""
    count = packed.config.parameters()
    if count > _MOST_PARAMETERS:
        return f"{count:,} parameters, unpacked to fp32, would take transformers minutes on this machine's processors"
    needed, free = needed_bytes(packed), available_bytes()
    return f"transformers would need {size(needed)}, and {size(free)} are free" if needed > free else ""
