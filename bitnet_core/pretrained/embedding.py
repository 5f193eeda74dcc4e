"""A student of its own shape with the embedding of a wider model, reduced to the student's width.

The reduction is a principal component analysis without centring: of all embeddings of that width it keeps the inner
products between tokens best (Eckart and Young 1936). A rotation then spreads the components evenly over the columns,
because the quantiser of activations gives all of them the same step.

Shapes: V vocabulary, E the source's width, D the student's.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bitnet_core.errors import UsageError
from bitnet_core.model.config import StudentConfig
from bitnet_core.model.presets import student_config
from bitnet_core.model.quant import hadamard
from bitnet_core.model.student import Student
from bitnet_core.pretrained.source import EMBEDDING
from bitnet_core.pretrained.start import Start, copy, finite
from bitnet_core.runs.reporter import Reporter
from bitnet_core.settings.values import StudentOptions
from bitnet_core.traces.examples import Example

RMS = 0.1
"""Root mean square of the weights that training begins with. Random ones have 0.02, and measured worse here."""


class EmbeddingStart(Start):
    """Puts a source's embedding into a new student. A training that resumes never opens the source."""

    def shape(self, options: StudentOptions, vocab_size: int, max_seq_len: int) -> StudentConfig:
        """The student's own shape. UsageError if it is wider than the source, BitnetError as of `source`."""
        config, width = student_config(options, vocab_size, max_seq_len), self.source.shape.hidden_size
        if config.hidden_size > width:
            raise UsageError(
                f"The student is {config.hidden_size} wide (MINI_DIM), wider than {self.source.name} ({width}), "
                "whose embedding it can't take; choose a narrower student, or empty STUDENT_INIT."
            )
        return config

    def resumed_shape(self, there: StudentConfig, options: StudentOptions, max_seq_len: int) -> StudentConfig:
        return student_config(options, there.vocab_size, max_seq_len)

    @torch.no_grad()
    def __call__(
        self,
        student: Student,
        examples: Sequence[Example],  # noqa: ARG002
        reporter: Reporter,  # noqa: ARG002
        folder: Path | None = None,  # noqa: ARG002 - it takes no time
    ) -> dict[str, Any]:
        """Load the embedding; what the checkpoints record of it."""
        weight_VD = student.output_weight
        wide_VE = finite(EMBEDDING, self.source.read(EMBEDDING)[: weight_VD.shape[0]])
        found_VD, share = reduced(wide_VE, weight_VD.shape[1])
        copy(weight_VD, EMBEDDING, found_VD * (RMS / found_VD.square().mean().sqrt()))
        return self.record(()) | {
            "width": weight_VD.shape[1],
            "width_of_source": self.source.shape.hidden_size,
            "kept": share,
        }


def reduced(embedding_VE: Tensor, width: int) -> tuple[Tensor, float]:
    """The embedding in its `width` strongest directions, rotated, and the share of its squares that they keep."""
    wide_VE = embedding_VE.double()
    squares_E, directions_EE = torch.linalg.eigh(wide_VE.T @ wide_VE)
    kept_VD = wide_VE @ directions_EE[:, -width:]
    return hadamard(kept_VD).float(), float(squares_E[-width:].sum() / squares_E.sum())
