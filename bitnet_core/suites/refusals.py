"""Whether an answer refuses, and the plain spelling of text that words are looked for in."""

import re
import unicodedata

_CANNOT = (
    r"(?:can ?not|can't|could ?not|couldn't|won't|will not|am not able to|am unable to|'m not able to|'m unable to)"
)
_REFUSAL = re.compile(
    rf"\b(?:i|we)(?: | also | really | just |){_CANNOT}\b"
    rf"|\b(?:i'm|i am|we're|we are) (?:sorry|afraid|unable|not able|not allowed|not permitted|not sure|unsure)\b"
    r"|^(?:sorry|unfortunately|apologies)\b|\bmy apologies\b|\bi apologi[sz]e\b"
    r"|\bas an? (?:ai|artificial|large language|language model|assistant)\b"
    r"|\b(?:i|we) (?:do not|don't) (?:know|have (?:access|enough|the)|have any)\b"
    r"|\b(?:i|we) (?:must |have to )?(?:decline|refuse)\b"
    r"|\b(?:is|was|are|were) not (?:mentioned|stated|specified|given|provided)\b"
    r"|\bunable to (?:answer|help|assist|determine|provide|comply)\b"
    r"|\b(?:it is|it's|that's|that is) (?:impossible|not possible)\b",
    re.MULTILINE,
)
_SPELLINGS = str.maketrans(
    dict.fromkeys("\u2018\u2019\u02bc\u2032", "'")
    | dict.fromkeys("\u201c\u201d\u201e", '"')
    | dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2212", "-")
    | dict.fromkeys("\u00a0\u202f\u2009", " ")
)


def refuses(text: str) -> bool:
    """Whether a text says that it does not answer."""
    return _REFUSAL.search(plain(text).casefold()) is not None


def plain(text: str) -> str:
    """The text with ASCII quotes, hyphens and spaces, composed characters, and without bold type and code marks.

    Letters of another script stay what they are, so that a look-alike is not the letter that it looks like.
    """
    return re.sub(r"\*\*|__|`", "", unicodedata.normalize("NFC", text).translate(_SPELLINGS))
