"""Whether a student can be trained on these traces at all. It knows no training loop."""

from bitnet_core.errors import UsageError
from bitnet_core.model.config import StudentConfig
from bitnet_core.settings.values import TrainOptions
from bitnet_core.traces.dataset import TraceSet


def require_fit(config: StudentConfig, traces: TraceSet, options: TrainOptions, *, online: bool = False) -> None:
    """UsageError for a student whose vocabulary is not that of the traces, or whose context is too short for them.

    Also for draws at a temperature other than 1, where they are biased, unless the teacher is asked `online`.
    """
    if traces.sampled and options.loss.tau != 1 and not online:
        raise UsageError(
            f"KD_TAU is {options.loss.tau:g}, and the candidates of these traces are draws at temperature 1 "
            "(KD_ROWS=sampled); set KD_TAU=1."
        )
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
