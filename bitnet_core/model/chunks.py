"""How many positions get logits at a time, so that logits over all positions never exist."""

# On a CPU the logits of one chunk should nearly fit into the caches; a GPU needs fewer, larger matmuls.
CHUNK_BYTES = {"cpu": 24 << 20}
CHUNK_BYTES_ELSEWHERE = 256 << 20
_LEAST = 16


def positions_at_a_time(vocab_size: int, device_type: str, factor: int = 1) -> int:
    """How many positions to compute at a time, so that their fp32 logits fit into `factor` chunks; at least 16."""
    room = CHUNK_BYTES.get(device_type, CHUNK_BYTES_ELSEWHERE) * factor
    return max(_LEAST, room // (4 * vocab_size))
