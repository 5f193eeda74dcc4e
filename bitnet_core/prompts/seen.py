"""Which 16-byte digests were met before. Knows nothing of what they are digests of.

Memory grows with their number: 24 to 48 bytes each, and half as much again while the table is copied into the next
larger one. A million take 34 MB, 50 MB at that moment.
"""

DIGEST_BYTES = 16
_FIRST_SLOTS = 1 << 10
_EMPTY = bytes(DIGEST_BYTES)


class Seen:
    """A set that only grows: a hash table in one block of bytes, at most two thirds full."""

    def __init__(self) -> None:
        self._slots = _FIRST_SLOTS
        self._table = bytearray(self._slots * DIGEST_BYTES)
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, digest: bytes) -> bool:
        """Put a digest in; whether it is new. The digest of all zeros, which marks a free slot, never is."""
        if 3 * self._count >= 2 * self._slots:
            self._grow()
        place = self._place(digest)
        if self._table[place : place + DIGEST_BYTES] == digest:
            return False
        self._table[place : place + DIGEST_BYTES] = digest
        self._count += 1
        return True

    def _place(self, digest: bytes) -> int:
        """Where the digest stands, or the free slot for it."""
        table, mask = self._table, self._slots - 1
        slot = int.from_bytes(digest[:8]) & mask
        while True:
            place = slot * DIGEST_BYTES
            found = table[place : place + DIGEST_BYTES]
            if found in (digest, _EMPTY):
                return place
            slot = (slot + 1) & mask

    def _grow(self) -> None:
        old = self._table
        self._slots *= 2
        self._table = bytearray(self._slots * DIGEST_BYTES)
        for start in range(0, len(old), DIGEST_BYTES):
            digest = bytes(old[start : start + DIGEST_BYTES])
            if digest != _EMPTY:
                place = self._place(digest)
                self._table[place : place + DIGEST_BYTES] = digest
