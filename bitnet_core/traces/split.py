"""Which sequences are held out of training. The same prompts, whatever the teacher or the settings.

A row's `sequence_hash` decides. It is that of the prompt's folded text, so that near-identical prompts are on one
side. Where the prompt is of a group, such as those made from one template, only the group's part of it decides. Sets
of older versions keep their sides: without groups, and before 2026-11-28 by the exact text.
"""

import hashlib

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bitnet_core.prompts.prompt import GROUPED
from bitnet_core.tokenizer.arrays import Bool

_HELDOUT_ONE_IN = 10
_PROMPT_PART = f"^({GROUPED}[^:]*):.*"


def is_heldout(sequence_hash: str) -> bool:
    """Whether a prompt is kept out of training: fixed by its hash, about 1 in 10 prompts or groups."""
    side = sequence_hash.rpartition(":")[0] if sequence_hash.startswith(GROUPED) else sequence_hash
    digest = hashlib.sha256(f"heldout:{side}".encode()).digest()
    return int.from_bytes(digest[:8], "big") % _HELDOUT_ONE_IN == 0


def with_both_sides(heldout_S: Bool, hashes: pa.ChunkedArray) -> Bool:
    """`heldout_S`, with the prompt or group of the lowest hash moved over if one side would be empty."""
    if not len(heldout_S) or (heldout_S.any() and not heldout_S.all()):
        return heldout_S
    sides = pc.replace_substring_regex(hashes, _PROMPT_PART, r"\1")
    lowest, highest = pc.min_max(sides).as_py().values()
    if lowest == highest:  # a single prompt can't be on both sides
        return np.zeros_like(heldout_S)
    changed: Bool = heldout_S ^ pc.equal(sides, lowest).to_numpy()
    return changed
