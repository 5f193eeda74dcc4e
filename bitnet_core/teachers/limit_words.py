"""The largest number of candidates that a refusal's words allow. Pure; words are in lower case."""

import re

_UNIT = r"(?!\d| ?(?:requests?|calls?|models?|minutes?|per)\b)"
_LIMIT = re.compile(
    r"(?:less than or equal to|<=|≤|at most|maximum|max(?:imum)? allowed|up to|between \d+ and|exceed|greater than"
    r"|no more than|no larger than|larger than|more than|(?<!rate )limit(?:ed)?(?: is| of| to)?|\[\d+,|\(\d+,|\bmax\b"
    r"|\b(?:only|just)(?: (?:the|top|request|ask|for|have|get|use|returns?|supports?|allows?|accepts?)){0,3}(?= \d)"
    rf"|\d[^<>\d]{{0,20}}>|\b[01] ?(?:-|–|\.\.+|to))\D{{0,24}}?(\d+){_UNIT}"
)
_BELOW = re.compile(
    r"(?:(?:smaller|less|lower|fewer) than (?!or equal)|\b(?:under|below)(?= \d)|<(?!=))\D{0,24}?(\d+)"
)
_LISTED = re.compile(
    r"(?:one of|values?(?: are| is)?:?|choices?(?: are)?:?|among|from|options?:?) ?[\[({]?"
    r"((?:\d+ ?(?:, ?(?:and |or )?|and |or ))+\d+)"
)
_NONE_AT_ALL = re.compile(
    r"(?<!top_)\blog ?probs?\b['\"`]? (?:is |are )?(?:not |un)(?:supported|available|implemented)"
)
"""A number that follows is a limit of something else."""
_NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
_SPELLED = {name: str(number) for number, name in enumerate(_NUMBERS)} | {"fifteen": "15", "twenty": "20"}
_SPELLED_NUMBER = re.compile(rf"\b(?:{'|'.join(_SPELLED)})\b(?! of\b)")


def limit_in(words: str, asked: int) -> int:
    """The largest number below `asked` that the words allow; 0 if they name none."""
    if _NONE_AT_ALL.search(words):
        return 0
    words = _SPELLED_NUMBER.sub(lambda found: _SPELLED[found[0]], words)
    limits = [int(number) for number in _LIMIT.findall(words)]
    limits += [int(number) - 1 for number in _BELOW.findall(words)]
    limits += [int(number) for listed in _LISTED.findall(words) for number in re.findall(r"\d+", listed)]
    return max((limit for limit in limits if limit < asked), default=0)
