"""Which sequences are held out of training. The same prompts, whatever the teacher or the settings.

A row's `sequence_hash` decides: that of its prompt's folded text, so that near-identical prompts are on one side; in
sets of versions before 2026-11-28 that of the exact text.
"""

import hashlib

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bitnet_core.tokenizer.arrays import Bool

_HELDOUT_ONE_IN = 10


def is_heldout(sequence_hash: str) -> bool:
    """Whether a prompt is kept out of training: fixed by its hash, about 1 in 10."""
    digest = hashlib.sha256(f"heldout:{sequence_hash}".encode()).digest()
    return int.from_bytes(digest[:8], "big") % _HELDOUT_ONE_IN == 0


def with_both_sides(heldout_S: Bool, hashes: pa.ChunkedArray) -> Bool:
    """`heldout_S`, with the prompt of the lowest hash moved over if one side would be empty."""
    if not len(heldout_S) or (heldout_S.any() and not heldout_S.all()):
        return heldout_S
    lowest, highest = pc.min_max(hashes).as_py().values()
    if lowest == highest:  # a single prompt can't be on both sides
        return np.zeros_like(heldout_S)
    changed: Bool = heldout_S ^ pc.equal(hashes, lowest).to_numpy()
    return changed
