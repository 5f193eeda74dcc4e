"""What to do about an SQLite database that can't be read or written. Knows nothing of experiments."""

_FIXES = {
    "full": "free space there",
    "I/O error": "check the disk",
    "readonly": "check its permissions, or mount its file system for writing",
    "locked": "close the program that uses it",
}


def database_fix(error: Exception) -> str:
    """The end of a sentence, by SQLite's words; they are the same in all languages."""
    return next((fix for words, fix in _FIXES.items() if words in str(error)), "check its disk and its permissions")
