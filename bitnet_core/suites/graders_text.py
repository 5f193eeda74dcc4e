"""Short answers out of a text, and texts that have to keep rules."""

import re
import unicodedata
from collections.abc import Sequence

from bitnet_core.suites.items import TextCheck
from bitnet_core.suites.refusals import plain, refuses

_SENTENCE_WORDS = 25
"""Words that an extracted answer may have besides what was asked for: a sentence, not the text again."""
_NOT_BEFORE = re.compile(r"(?:\b(?:not|never|no|neither|nor|without|except|unlike|or)\b|n't\b)(?:\W+\w+){0,2}\W*$")
_OR_AFTER = re.compile(r"\W*\bor\b|\s*\?")
_HEDGE = re.compile(
    r"\b(?:maybe|perhaps|possibly|probably|might|could be|may be|either|i think|i guess|not sure|unclear)\b"
)
_BULLET = re.compile(r"\s*[-*\u2022]\s+\S")
_NUMBERED = re.compile(r"\s*(\d+)[.)]\s+\S")
_WORD = re.compile(r"[^\W_]+(?:['-][^\W_]+)*")
_SENTENCE_END = re.compile(r"(?<![.!?])[.!?]++(?=[\"')\]]*+(?:\s|$))")
"""Each row of marks is tried once: from its first mark, and as a whole."""


# -- extraction ------------------------------------------------------------------------------------------
def extract_fault(answer: str, accepted: Sequence[str], rejected: Sequence[str]) -> str:
    """Why the answer does not name one of `accepted` alone; empty if it does."""
    if refuses(answer):
        return "it is a refusal"
    text = _folded(answer)
    others = [phrase for phrase in rejected if _places(text, _folded(phrase))]
    if others:
        return f"it names {others[0][:40]} too"
    found = [(phrase, place) for phrase in map(_folded, accepted) for place in _places(text, phrase)]
    if not found:
        return "it does not name what was asked for"
    longest = max(len(_WORD.findall(phrase)) for phrase, _ in found)
    if len(_WORD.findall(text)) > longest + _SENTENCE_WORDS:
        return "it is too long for a short answer"
    if _HEDGE.search(text) or any(
        _NOT_BEFORE.search(text[:place]) or _OR_AFTER.match(text[place + len(phrase) :]) for phrase, place in found
    ):
        return "it does not commit to one answer"
    return ""


def _folded(text: str) -> str:
    return " ".join(plain(text).casefold().split())


def _places(text: str, phrase: str) -> list[int]:
    """Where `phrase` stands as whole words and numbers; not in "Ann's", "Ann-Marie", "12:30" or "1.5"."""
    whole = rf"(?<![\w-])(?<![\d][.,:/]){re.escape(phrase)}(?![\w-])(?![.,:/]\d)(?!'s\b)"
    return [match.start() for match in re.finditer(whole, text)]


# -- rules -----------------------------------------------------------------------------------------------
def rules_fault(answer: str, check: TextCheck, prompt: str) -> str:
    """The first rule that the text breaks, in a few words; empty if it keeps all of them."""
    if refuses(answer):
        return "it is a refusal"
    if _folded(prompt) in _folded(answer):  # the words that it asks for are in it
        return "it repeats the prompt"
    text = plain(answer).strip()
    if any(sign.isalpha() and not unicodedata.name(sign, "").startswith("LATIN") for sign in text):
        return "it has letters of another script"
    if any(unicodedata.category(sign) == "Cf" for sign in text):
        return "it has invisible characters"
    return _content_fault(text, check) or _shape_fault(text, check) or _length_fault(text, check)


def _content_fault(text: str, check: TextCheck) -> str:
    folded = _folded(text)
    for phrase in check.contains:
        if not _places(folded, _folded(phrase)):
            return f"{phrase[:40]!r} is missing"
    for phrase in check.excludes:
        if _places(folded, _folded(phrase)):
            return f"it has {phrase[:40]!r}"
    for word, count in check.repeats.items():
        if len(_places(folded, _folded(word))) != count:
            return f"{word[:40]!r} does not occur {count} times"
    letters = unicodedata.normalize("NFKD", text.casefold())
    return next((f"it has {sign!r}" for sign in check.without.casefold() if sign in letters), "")


def _shape_fault(text: str, check: TextCheck) -> str:
    if check.starts and not text.casefold().startswith(plain(check.starts).casefold()):
        return f"it does not start with {check.starts[:40]!r}"
    if check.ends and not text.casefold().endswith(plain(check.ends).casefold()):
        return f"it does not end with {check.ends[:40]!r}"
    if check.case == "upper" and text != text.upper():
        return "it has lower-case letters"
    if check.case == "lower" and text != text.lower():
        return "it has capital letters"
    lines = [line for line in text.splitlines() if line.strip()]
    if check.lines is not None and len(lines) != check.lines:
        return f"it does not have {check.lines} lines"
    if check.paragraphs is not None and len(re.split(r"\n\s*\n", text)) != check.paragraphs:
        return f"it does not have {check.paragraphs} paragraphs"
    if check.bullets is not None and (len(lines) != check.bullets or not all(map(_BULLET.match, lines))):
        return f"it is not a list of {check.bullets} bullets"
    if check.numbered is not None:
        numbers = [found[1] if (found := _NUMBERED.match(line)) else "" for line in lines]
        if numbers != [str(place + 1) for place in range(check.numbered)]:
            return f"it is not a list from 1 to {check.numbered}"
    return ""


def _length_fault(text: str, check: TextCheck) -> str:
    words = len(_WORD.findall(re.sub(r"(?m)^[^\S\n]*\d+[.)]", "", text) if check.numbered is not None else text))
    if check.words is not None and not check.words[0] <= words <= check.words[1]:
        return f"it has {words} words"
    if check.sentences is not None:
        ends = list(_SENTENCE_END.finditer(text))
        unfinished = _WORD.search(text, ends[-1].end() if ends else 0) is not None
        if len(ends) + unfinished != check.sentences:
            return f"it has {len(ends) + unfinished} sentences"
    return ""
