"""The batches whose steps are timed: those of training, or synthetic ones before there are traces."""

import numpy as np

from bitnet_core.settings.values import TrainOptions
from bitnet_core.traces.dataset import TraceSequence, TraceSet
from bitnet_core.traces.examples import Examples
from bitnet_core.training.batches import Sampler


def batches_of(traces: TraceSet | None, options: TrainOptions, vocabulary: int, top_k: int) -> Sampler:
    """The batches of training on `examples_of` the same."""
    examples = examples_of(traces, options, vocabulary, top_k)
    capacity = options.max_seq_len if options.pack else None
    return Sampler(examples, options.batch_size, options.seed, capacity)


def examples_of(traces: TraceSet | None, options: TrainOptions, vocabulary: int, top_k: int) -> Examples:
    """Those of training; without traces, rows of one sequence with every position supervised."""
    sequences = traces.split()[0] if traces else [_synthetic(place, options, vocabulary, top_k) for place in range(8)]
    return Examples(sequences, options.max_seq_len)


def _synthetic(place: int, options: TrainOptions, vocabulary: int, top_k: int) -> TraceSequence:
    rng = np.random.default_rng(place)
    length = options.max_seq_len
    candidates = min(top_k, vocabulary - 1)
    ids_C1 = rng.integers(0, vocabulary, (length, 1))
    return TraceSequence(
        prompt_idx=place,
        prompt_text="",
        completion_text="",
        prompt_ids_P=np.zeros(1, np.int32),
        completion_ids_C=ids_C1[:, 0].astype(np.int32),
        topk_ids_CK=((ids_C1 + np.arange(candidates)) % vocabulary).astype(np.int32),
        topk_logprobs_CK=np.full((length, candidates), -np.log(candidates + 1), np.float32),
        other_logprob_C=np.full(length, -np.log(candidates + 1), np.float32),
        kd_valid_C=np.ones(length, bool),
        is_struct_C=np.zeros(length, bool),
        heldout=False,
        finish_reason="stop",
        sequence_hash=f"{place:064x}",
    )
