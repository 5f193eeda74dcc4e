"""Whether a student can be trained on these traces at all. It knows no training."""

from bitnet_core.errors import UsageError
from bitnet_core.model.config import StudentConfig
from bitnet_core.settings.values import TrainOptions
from bitnet_core.traces.dataset import TraceSet


def require_fit(config: StudentConfig, traces: TraceSet, options: TrainOptions) -> None:
    """UsageError for a student whose vocabulary is not that of the traces, or whose context is too short for them."""
    if config.vocab_size != traces.vocab_size:
        raise UsageError(
            f"The student has {config.vocab_size} tokens and the traces have {traces.vocab_size}; "
            "make the student with the vocabulary size of the traces."
        )
    if config.max_position_embeddings < options.max_seq_len:
        raise UsageError(
            f"The student reads {config.max_position_embeddings} positions and max_seq_len (MAX_SEQ_LEN) is "
            f"{options.max_seq_len}; make the student with more positions, or cut sequences shorter."
        )
