"""Text that can't be written: bytes that are no UTF-8 come from the outside as half surrogate pairs."""


def is_utf8(text: str) -> bool:
    """Whether it can be sent and written at all."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def printable(text: str) -> str:
    """With what can't be written as escapes, for a sentence about it."""
    return text.encode("utf-8", "backslashreplace").decode()
