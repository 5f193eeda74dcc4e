"""The number that an answer names or ends with: exactly, plainly and in the right unit."""

import re
from collections.abc import Sequence
from decimal import Decimal

from bitnet_core.suites.refusals import refuses

_THIN = "\u00a0\u202f\u2009"
_RUN = re.compile(rf"(?<![A-Za-z0-9_.,])\.?[0-9][0-9.,_'{_THIN}]*(?:[eE][-+]?[0-9]{{1,3}}(?![0-9A-Za-z]))?")
_PLAIN = re.compile(r"(?:[0-9]+(?:\.[0-9]+)?|\.[0-9]+)(?:[eE][-+]?[0-9]{1,3})?")
_GROUPED = re.compile(
    rf"[0-9]{{1,3}}(?:(,)[0-9]{{3}})+(?:\.[0-9]+)?|[0-9]{{1,3}}(?:[{_THIN}][0-9]{{3}})+(?:\.[0-9]+)?"
)
_LONGEST = 60
_MARKUP = re.compile(r"\*\*|__|`|\\[()\[\],;!]|\$\$|\\text\{|\\boxed\{|[{}]")
_NAMED = re.compile(r"\banswer\b[^0-9\n]{0,24}?(?:\bis\b|[:=])|####", re.IGNORECASE)
_SENTENCE_END = re.compile(r"[.!?](?:\s|$)|\n")
_NEIGHBOUR = 40
_NUMBER_BEFORE = re.compile(rf"[0-9][ \t{_THIN}]*$")
_OPERATOR_BEFORE = re.compile(r"[0-9)%][ \t]*(?:[-+*/^\u00d7\u00f7:x\u2013]|to)[ \t]*[$\u20ac\u00a3]?$")
_OPERATOR_AFTER = re.compile(r"[ \t]*[-+*/^\u00d7\u00f7\u2013][ \t]*[0-9(]|[\u00b2\u00b3\u2070-\u2079\u00bc-\u00be]")
_SIGN = re.compile(r"(?:^|[\s=(:$])-[ ]?[$\u20ac\u00a3]?$")
_INEXACT = re.compile(
    r"(?:\b(?:about|around|approximately|approx\.?|roughly|nearly|almost|circa|(?:less|more|fewer|greater) than|over"
    r"|under|at (?:least|most)|not|isn't|never|or|between|maybe|perhaps|possibly|might be|could be)(?: (?:a|the))?"
    r"|[~<>\u2248\u2260\u2264\u2265])\s*[-$\u20ac\u00a3]*$",
    re.IGNORECASE,
)
_OR_AFTER = re.compile(r"[ \t]*+(?:[A-Za-z]++[ \t]++)?,?[ \t]*+\b(?:or|maybe|perhaps)\b|\?", re.IGNORECASE)
_CURRENCY = re.compile(r"(?:([$\u20ac\u00a3])|\b(usd|eur|gbp))[ ]?$", re.IGNORECASE)
_WORD_AFTER = re.compile(r"([ \t]*)-?((?:%|\u00b0[CF]?|\u20ac|\u00a3|[A-Za-z]+)(?:/[A-Za-z]+|[\u00b2\u00b3])?)")
_SYNONYMS = (
    *(("%", "percent"), ("$", "usd", "dollar", "dollars"), ("cent", "cents"), ("\u20ac", "eur", "euro", "euros")),
    *(("\u00a3", "gbp", "pound", "pounds"), ("mm", "millimetres", "millimeters"), ("inch", "inches")),
    *(("cm", "centimetre", "centimetres", "centimeter", "centimeters"), ("ft", "foot", "feet"), ("yard", "yards")),
    *(("m", "metre", "metres", "meter", "meters"), ("mile", "miles"), ("mg", "milligrams"), ("lb", "lbs")),
    *(("km", "kilometre", "kilometres", "kilometer", "kilometers"), ("g", "gram", "grams"), ("ton", "tons")),
    *(("kg", "kilogram", "kilograms"), ("ounce", "ounces", "oz"), ("l", "litre", "litres", "liter", "liters")),
    *(("ml", "millilitres", "milliliters"), ("s", "sec", "second", "seconds"), ("min", "minute", "minutes")),
    *(("h", "hr", "hour", "hours"), ("day", "days"), ("week", "weeks"), ("month", "months"), ("year", "years")),
    *(("km/h", "kmh"), ("mph",), ("m/s",), ("degree", "degrees", "\u00b0"), ("\u00b0c",), ("\u00b0f",), ("k",)),
    *(("hundred",), ("thousand",), ("million",), ("billion",), ("dozen",), ("m\u00b2",), ("cm\u00b2",), ("m\u00b3",)),
)
_UNITS = {spelling: names[0] for names in _SYNONYMS for spelling in names}


def number_fault(answer: str, value: str, units: Sequence[str]) -> str:
    """Why the answer is not this number; empty if it is. One of `units`, in any spelling, may stand beside it."""
    if refuses(answer):
        return "it is a refusal"
    text = _MARKUP.sub("", answer.replace("\\boxed{", "#### ")).replace("\u2212", "-").replace("\\", "")
    if any(sign.isdecimal() and not sign.isascii() for sign in text):
        return "it has digits other than 0 to 9"
    run = _final_run(text)
    if run is None:
        return "it has no number"
    written = run[0].rstrip(f".,'_{_THIN}")
    before = text[max(0, run.start() - _NEIGHBOUR) : run.start()]
    after = text[run.start() + len(written) :][:_NEIGHBOUR]
    found = _parsed(written)
    if found is None:
        return "its number is not written as one"
    if _NUMBER_BEFORE.search(before) or _OPERATOR_BEFORE.search(before) or _OPERATOR_AFTER.match(after):
        return "its last number is part of an expression"
    if _INEXACT.search(before) or _OR_AFTER.match(after):
        return "it does not commit to one number"
    if fault := _unit_fault(before, after, {_UNITS.get(unit.casefold(), unit.casefold()) for unit in units}):
        return fault
    signed = -found if _SIGN.search(before) else found
    return "" if signed == Decimal(value) else "it is another number"


def _final_run(text: str) -> re.Match[str] | None:
    """The last number, or that of the last sentence which says "the answer is"; there, the one after the last "="."""
    runs = list(_RUN.finditer(text))
    marks = list(_NAMED.finditer(text))
    named = [one for one in runs if marks and one.start() >= marks[-1].end()]
    if not named:
        return runs[-1] if runs else None
    end = _SENTENCE_END.search(text, named[0].start())
    sentence = text[: end.start() if end else len(text)]
    equals = sentence.rfind("=", marks[-1].end())
    return next((one for one in named if equals < one.start() < len(sentence)), named[0])


def _parsed(written: str) -> Decimal | None:
    """The value of a number such as 1250, 1,250.50, .5 or 1e3; None if it is grouped in another way."""
    if len(written) > _LONGEST:
        return None
    if _GROUPED.fullmatch(written):
        return Decimal(re.sub(rf"[,{_THIN}]", "", written))
    return Decimal(written) if _PLAIN.fullmatch(written) else None


def _unit_fault(before: str, after: str, allowed: set[str]) -> str:
    beside = []
    if currency := _CURRENCY.search(before):
        beside.append(_UNITS[(currency[1] or currency[2]).casefold()])
    if word := _WORD_AFTER.match(after):
        name = word[2].casefold()
        if name not in _UNITS and not word[1] and name[0].isalpha() and "-" not in word[0]:
            return "its number is not written as one"
        if name in _UNITS:
            beside.append(_UNITS[name])
    return "" if set(beside) <= allowed else "it is in another unit"
