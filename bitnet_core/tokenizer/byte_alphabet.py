"""The alphabet in which byte-level BPE spells bytes (GPT-2's): a visible character for each. Data only."""


def _alphabet() -> dict[str, int]:
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    table = {chr(byte): byte for byte in printable}
    for shift, byte in enumerate(byte for byte in range(256) if byte not in set(printable)):
        table[chr(256 + shift)] = byte
    return table


BYTE_OF_CHARACTER = _alphabet()
