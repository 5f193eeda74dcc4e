"""The card "runs anywhere": for each runtime, whether the student loads, how near it is, what to type. Pure."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from bitnet_core.export import parting
from bitnet_core.export.compare import Comparison
from bitnet_core.export.parting import Parting
from bitnet_core.export.running import LLAMACPP, TRANSFORMERS
from bitnet_core.export.verify import Verification
from bitnet_core.runs import exports
from bitnet_core.text import number, share, significant, size

IN_PROCESS = "in-process"
TITLE = "runs anywhere"
COLUMNS = ["runtime", "loads", "max diff", "mean diff", "top-1", "same text", "tokens/s", "memory", "file"]


@dataclass(frozen=True)
class Row:
    """One runtime. What was not measured is None."""

    runtime: str
    loads: str
    """"yes", or why not."""
    line: str
    """What to type to use it."""
    compared_with: str = ""
    found: Comparison | None = None
    texts: int = 0
    """How many prompts it has answered greedily."""
    partings: Sequence[Parting] = field(default_factory=list)
    """Where its answers leave the student's."""
    tokens_per_s: float | None = None
    memory_bytes: int | None = None
    file_bytes: int | None = None

    @property
    def same_text(self) -> str:
        """How many of its answers are the student's."""
        return f"{self.texts - len(self.partings)} of {self.texts}" if self.texts else ""

    def record(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self) | {"same_text": self.same_text}


def row_of(verified: Verification) -> Row:
    """The row of an export that was run."""
    line = exports.serve_line(exports.GGUF if verified.runtime == LLAMACPP else exports.HF, str(verified.path))
    return Row(
        verified.runtime,
        "yes",
        line,
        verified.compared_with,
        verified.found,
        len(verified.texts),
        verified.partings,
        verified.tokens_per_s,
        verified.memory_bytes,
        verified.bytes,
    )


def not_exported(runtime: str) -> Row:
    """The row of a runtime that the student was not exported for."""
    command = {TRANSFORMERS: "bitnet export hf", LLAMACPP: "bitnet export gguf"}[runtime]
    return Row(runtime, "not exported", command)


def refused(runtime: str, reason: str) -> Row:
    """The row of a runtime that can't have the student."""
    return Row(runtime, "no", reason)


def unverified(runtime: str, reason: str) -> Row:
    """The row of an export whose runtime is not installed."""
    return Row(runtime, "not tried", reason)


def table(rows: Sequence[Row]) -> list[list[Any]]:
    """Cells under COLUMNS."""
    return [
        [
            row.runtime,
            row.loads,
            significant(row.found.max_difference) if row.found else "–",
            significant(row.found.mean_difference) if row.found else "–",
            share(row.found.agreement) if row.found else "–",
            row.same_text or "–",
            significant(row.tokens_per_s) if row.tokens_per_s is not None else "–",
            size(row.memory_bytes) if row.memory_bytes is not None else "–",
            size(row.file_bytes) if row.file_bytes is not None else "–",
        ]
        for row in rows
    ]


def notes(rows: Sequence[Row], gap: Comparison | None, bits: str) -> list[str]:
    """What each comparison was with, the lines to type, and what rounding to 8 bits changes.

    `bits` are the words for the widths that the student was trained at.
    """
    lines = [f"{row.runtime}: {row.line}" for row in rows]
    for row in rows:
        if row.found is not None and row.compared_with:
            decided, rounded = row.found.decided_agreement, row.found.rounded_kl
            at = (
                f", and on {share(decided)} of those whose margin exceeds the rounding" if decided is not None else ""
            )
            alike = f" ({number(rounded)} with inputs rounded alike)" if rounded is not None else ""
            lines.append(
                f"{row.runtime} beside {row.compared_with}, {row.found.steps} steps: mean KL "
                f"{number(row.found.mean_kl)} nats{alike}, the same most likely token on "
                f"{share(row.found.agreement)}{at}."
            )
        if row.partings:
            lines.append(f"{row.runtime}: {parting.words(row.partings, row.texts)}.")
    if gap is not None:
        lines.append(
            f"It was trained at {bits}, and both runtimes round inputs to 8, which changes its answers: mean KL "
            f"{number(gap.mean_kl)} nats, the same most likely token on {share(gap.agreement)}."
        )
    return lines
