"""Why bytes could not be read as JSON, in a few plain words. Knows nothing of experiments."""

_REASON_CHARS = 200
_HALF = b"\\ud"
"""Begins the escaped half of a surrogate pair; msgspec says of a lone one that data was truncated."""


def json_fault(error: BaseException, data: bytes) -> str:
    """The end of a sentence, such as "it is cut off". What msgspec says of a value of a wrong type stays as it is."""
    said = str(error)
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, UnicodeDecodeError):
        return "it is not UTF-8 text"
    if said.startswith("Input data was truncated"):
        if not data.strip():
            return "it is empty"
        return "it is cut off, or has half a surrogate pair" if _HALF in data.lower() else "it is cut off"
    if said.startswith("JSON is malformed: "):
        return f"it is not JSON: {said.removeprefix('JSON is malformed: ')}"[:_REASON_CHARS]
    return said[:_REASON_CHARS]
