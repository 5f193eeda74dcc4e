"""OneDrive's QuickXorHash: 160 bits; byte i of the data is XORed in, rotated by 11 i bits. Not a secure hash.

Microsoft: "Code Snippets: QuickXorHash Algorithm".
"""

import base64

_BITS = 160
_SHIFT = 11
_MASK = (1 << _BITS) - 1
_PERIOD = 160
"""Bytes until a rotation comes again: 11 × 160 is a multiple of 160, so bytes this far apart meet."""


def quick_xor_hash(data: bytes) -> str:
    """The hash in Base64, as Graph gives it."""
    value = 0
    for index, byte in enumerate(_folded(data)):
        shifted = byte << (index * _SHIFT % _BITS)
        value ^= (shifted & _MASK) ^ (shifted >> _BITS)
    value ^= len(data) << (_BITS - 64)
    return base64.b64encode((value & _MASK).to_bytes(_BITS // 8, "little")).decode()


def _folded(data: bytes) -> bytes:
    """One period that is the XOR of all periods of the data; halving makes it a few operations on large numbers."""
    while len(data) > _PERIOD:
        half = -(-len(data) // (2 * _PERIOD)) * _PERIOD
        low, high = data[:half], data[half:]
        data = (int.from_bytes(low, "little") ^ int.from_bytes(high, "little")).to_bytes(half, "little")
    return data
