"""The step "Teacher": its cards, what a probe is asked with, and what it found."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from bitnet_core.teachers.prices import lowest_price
from bitnet_core.teachers.profiles import PROVIDERS, Provider
from bitnet_core.text import crop, dollars, pad, significant
from bitnet_tui.labels import provider_words
from bitnet_tui.view.guide.draft import CANDIDATES, EMBEDDED, TEACHER, Draft, asks_address, candidates
from bitnet_tui.view.guide.words import plain
from bitnet_tui.view.key_rows import NO_VAULT, THE_VAULT
from bitnet_tui.view.spans import Line, Span, line

_GROUPS = ("This machine", "Your own server", "Hosted", "Chat and baseline only")
_NAME_CELLS, _LOGPROBS_CELLS = 13, 12
AT_TEMPERATURE_1 = {"KD_TEACHER_TEMPERATURE": "1", "KD_TEACHER_TOP_P": "1"}
_UNSET = Draft()
NO_LOGPROBS = "gives no logprobs"
_UNUSABLE = re.compile(r"can't be used: ([^;]+)")
"""In the refusal of logprobs: what is wrong with them."""
_AT_MOST = re.compile(rf"\bset {CANDIDATES}=(\d{{1,3}})\b")
"""In a refusal: the number of candidates that the model gives."""


def groups() -> tuple[tuple[str, tuple[str, ...]], ...]:
    """The providers under their headings."""
    found: dict[str, list[str]] = {title: [] for title in _GROUPS}
    for provider in PROVIDERS.values():
        found[_group(provider)].append(provider.name)
    return tuple((title, tuple(names)) for title, names in found.items())


def _group(provider: Provider) -> str:
    here, own, hosted, chat = _GROUPS
    if provider.logprobs == "no":
        return chat
    return own if asks_address(provider) else here if provider.local else hosted


def short_name(provider: Provider) -> str:
    if provider.name == EMBEDDED:
        return "SmolLM2-135M"
    own = provider_words(provider.name)
    return own if own != provider.name else provider.label.removesuffix(" server")


def heading(title: str, *, slim: bool = False) -> Line:
    """The line above a group's cards; where there is room, the first one says what all their columns are."""
    if slim or title != _GROUPS[0]:
        return line(Span(title, "title"))
    # A card begins with two cells for the sign of the chosen one.
    columns = f"{pad('logprobs?', _LOGPROBS_CELLS)}needs"
    return line(Span(pad(title, _NAME_CELLS + 2), "title"), Span(columns, "faint"))


def card(provider: Provider, price: float | None, *, slim: bool = False) -> Line:
    """One line of the list: its name, logprobs, what it needs, and the price of its cheapest known model.

    In a `slim` list only the name.
    """
    if slim:
        return line(crop(short_name(provider), _NAME_CELLS))
    name = pad(short_name(provider), _NAME_CELLS)
    logprobs = {"yes": "logprobs", "per model": "by model", "no": "no logprobs"}[provider.logprobs]
    style = {"yes": "good", "per model": "label", "no": "warn"}[provider.logprobs]
    return line(name, Span(pad(logprobs, _LOGPROBS_CELLS), style), _needs(provider, price))


def _needs(provider: Provider, price: float | None) -> Span:
    if provider.name == EMBEDDED:
        return Span("nothing", "good")
    if provider.loads_first:
        return Span("address" if asks_address(provider) else "model", "label")
    return Span("key" if price is None else f"key {dollars(price)}", "label")


def note(provider: Provider) -> tuple[str, str]:
    """What the provider can and can't do, and the style to show it in."""
    if provider.logprobs == "no":
        return f"{provider.note} Traces can't be collected from it.", "warn"
    return plain(provider.note), "label"


def prices() -> dict[str, tuple[str, float]]:
    """The cheapest known model of each provider, and its price per million input tokens."""
    found = {name: lowest_price(provider) for name, provider in PROVIDERS.items()}
    return {name: (one[0], one[1].input) for name, one in found.items() if one is not None}


def has_models(provider: Provider) -> bool:
    """Whether its model is to be chosen. Any server may ask for a key then, and the hub for gated models."""
    return provider.name != EMBEDDED


# -- testing -------------------------------------------------------------------------------------------------------


def asked(draft: Draft, keys: Mapping[str, str]) -> object:
    """What a test's answer is about: with another teacher, address or typed key, it counts no longer."""
    return {**question(draft), "key": keys.get(draft.teacher.key_setting, "")}


def untested(asked: Mapping[str, Any], draft: Draft) -> str:
    """What was asked for instead of the choice as it is now, as a clause; empty for another teacher, or for no model.

    `asked` is what the last test was about.
    """
    if asked.get("provider") != draft.teacher.name or not draft.model:
        return ""
    if asked.get("model") == draft.model:
        return "its address or key has changed since the last test"
    return f"the last test was of {asked['model']}" if asked.get("model") else "only the list of models was asked for"


def question(draft: Draft) -> dict[str, Any]:
    """What `Probe` asks with."""
    provider = draft.teacher
    values = {TEACHER: provider.name}
    if draft.address:
        values[provider.base_url_setting] = draft.address
    return {"provider": provider.name, "model": draft.model, "values": values}


def sampling(draft: Draft) -> dict[str, str]:
    """The draft's settings that collecting asks with besides."""
    return {name: draft.values[name] for name in AT_TEMPERATURE_1 if name in draft.values}


@dataclass(frozen=True)
class Found:
    """What a test found: the lines that say it, and how to mend it.

    `offer` is the label of a button and what it does: settings to set, or the field to go to. `report` is what it was
    read from, to be read again once they are set.
    """

    lines: tuple[Line, ...]
    offer: str = ""
    values: tuple[tuple[str, str], ...] = ()
    field: str = ""
    models: tuple[str, ...] = ()
    untraceable: str = ""
    """Why no traces can be collected from the teacher, to go on after “This teacher”; empty if that is not known."""
    why: str = ""
    """Why the test failed, in a few words; empty if it did not."""
    report: Mapping[str, Any] | None = None


def failed(problem: str) -> Found:
    """A test that could not be made."""
    return Found((_bad(plain(problem)),), why=in_short(problem))


def not_tested(why: str, models: tuple[str, ...] = ()) -> Found | None:
    """What to show of a choice that was not tested, as far as there is something to tell."""
    lines = (line(Span(f"not tested: {why}", "label")),) if why else ()
    return Found(lines, models=models) if lines or models else None


def stopped(field: str) -> Found:
    """What is shown of a test or a login that ended because this field was changed."""
    return Found((line(Span(f"stopped: “{field}” was changed meanwhile", "label")),))


RUNNING = "still running"
"""Why nothing is known yet from a test."""

_REFUSED_KEY = re.compile(r"(?:.*\. There, )?\S+ refuses the key in \S+(?: \(or \S+\))? \((.*)\); set a valid one ")
_NO_KEY = re.compile(r"(?:.*\. There, )?\S+ wants a key, and none is given \((.*)\); set one ")
_OUTCOME = re.compile(r"can't be reached \(([^()]+)\)")
_CODE = re.compile(r"^[^(]* \(([\w .]{3,24}):")
_SHORT_CELLS = 60


def in_short(problem: str) -> str:
    """Why something failed, without what to do about it: what is in brackets of what can't be reached.

    Of what a server says, which is in brackets, its code.
    """
    found = _OUTCOME.search(problem)
    said = plain(problem).partition("; ")[0]
    code = _CODE.search(said)
    words = found[1] if found else f"{said.partition(' (')[0].rstrip('.')}{f' ({code[1]})' if code else ''}"
    return crop(words, _SHORT_CELLS)


def answer(report: Mapping[str, Any], draft: Draft = _UNSET) -> Found:
    """What a probe found, and what of the draft it asks to change."""
    found = _answer(report, draft)
    said, *rest = found.lines
    return replace(found, lines=(said, *_unlisted(report, found.models), *rest), report=report)


def _unlisted(report: Mapping[str, Any], models: tuple[str, ...]) -> tuple[Line, ...]:
    """That a server has answered whose list lacks the model: many answer under any name, with what they have."""
    model = report.get("model")
    if not (model and models and report.get("chat") and report.get("model_listed") is False):
        return ()
    return () if f"{model}:latest" in models else (_warn(f"the server does not list {model}; it answers anyway"),)


def _answer(report: Mapping[str, Any], draft: Draft) -> Found:
    raw = str(report.get("problem") or "")
    problem = plain(raw)
    provider = PROVIDERS.get(str(report.get("provider")))
    models = tuple(name for name in report.get("models") or () if isinstance(name, str) and name.isprintable())
    if report.get("reachable") is None and provider and any(one in raw for one in provider.key_settings(own=True)):
        return Found((_bad(problem),), "Go to Key", field="KEY", models=models, why=in_short(raw))
    if not report.get("reachable"):
        return _of_address(provider, problem or "It gave no answer.", in_short(raw) or "no answer")
    if provider and asks_address(provider) and (there := report.get("answers_at")):
        refused = report.get("key_accepted") is False
        return _elsewhere(str(there), provider, _key_refused(raw, provider) if refused else "")
    if not report.get("key_accepted") and "_BASE_URL" in raw:
        where = str(report.get("base_url") or "this address")
        text = f"Nothing at {where} answers as such a server; an address usually ends in /v1."
        return _of_address(provider, text, "no such server at its address")
    if not report.get("key_accepted"):
        press = "Type the key" if _NO_KEY.match(raw) else "Type another key"
        offer = (press, "KEY") if provider is None or has_models(provider) else ("", "")
        words = _key_refused(raw, provider) or problem or "The key was refused."
        return Found((_bad(words),), offer[0], field=offer[1], models=models, why=in_short(words))
    if not report.get("model"):
        return _models(models, problem)
    if not report.get("chat"):
        words = problem or "It did not answer."
        return Found((_bad(words),), "Choose another model", field="MODEL", models=models, why=in_short(words))
    said = line(Span("✓ ", "good"), f"{report['model']} answered in {significant(report['latency_s'], 2)} s")
    if report.get("logprobs") is None:
        return _refused(report, draft, said, raw, models)
    if not report["logprobs"]:
        wrong = _UNUSABLE.search(problem)
        untraceable = f"gives logprobs that can't be used ({wrong[1]})" if wrong else NO_LOGPROBS
        told = _warn(problem.rstrip(".") if wrong else f"{NO_LOGPROBS}: good for chat and the baseline only")
        found = (said, told, *_price(report))
        return Found(found, "Choose another model", field="MODEL", models=models, untraceable=untraceable)
    return _with_logprobs(report, draft, said, models)


def _key_refused(raw: str, provider: Provider | None) -> str:
    """That the teacher refuses the key or has none, by its name on the page and with the fix; empty if neither."""
    if provider is None:
        return ""
    if said := _NO_KEY.match(raw):
        return f"{short_name(provider)} wants a key, and none is given ({said[1]}); type it into “Key”."
    said = _REFUSED_KEY.match(raw)
    if said is None:
        return ""
    return f"{short_name(provider)} refuses the key ({said[1]}); type another one into “Key”."


def _of_address(provider: Provider | None, text: str, why: str) -> Found:
    """What may be wrong with the address, if that is the user's to change."""
    own = provider is None or asks_address(provider)
    return Found((_bad(text),), "Change the address" if own else "", field="ADDRESS" if own else "", why=why)


def _elsewhere(there: str, provider: Provider, refused: str) -> Found:
    """That the server answers at another address, which is offered, and that it has `refused` the key there."""
    values = ((provider.base_url_setting, there),)
    lines = [_bad(f"Correct “Address”: {there} answers."), *([_bad(refused)] if refused else [])]
    return Found(tuple(lines), f"Use {there}", values, why="no path in its address")


def _refused(report: Mapping[str, Any], draft: Draft, said: Line, raw: str, models: tuple[str, ...]) -> Found:
    """It gives none with the settings that it was asked with; where the refusal names some, they are offered."""
    most = _AT_MOST.search(raw)
    named = {CANDIDATES: most[1]} if most else {name: one for name, one in AT_TEMPERATURE_1.items() if name in raw}
    values = _unset(draft, named)
    if named and not values:
        told = line(Span("✓ ", "good"), "set; test it again")
    elif most:
        told = _warn(_too_many(int(most[1]), draft))
    else:
        told = _warn(f"unknown whether it gives logprobs ({plain(raw).rstrip('.')})")
    return Found((said, told, *_price(report)), _offer(values), tuple(values.items()), models=models)


def _with_logprobs(report: Mapping[str, Any], draft: Draft, said: Line, models: tuple[str, ...]) -> Found:
    lines, values = [said, line(Span("✓ ", "good"), f"logprobs{_candidates(report)}")], {}
    most = report.get("largest_k")
    if CANDIDATES in draft.values and not (type(most) is int and most < candidates(draft)):
        lines.append(line(Span("✓ ", "good"), f"{draft.get(CANDIDATES)} will be asked for"))
    if type(most) is int and 0 < most < candidates(draft):
        lines.append(_warn(_too_many(most, draft)))
        values[CANDIDATES] = str(most)
    if report.get("logprob_mode") == "raw":
        lines.append(line(Span("✓ ", "good"), "any temperature will do: it does not change the probabilities"))
    elif not (sampled := _unset(draft, AT_TEMPERATURE_1)):
        lines.append(line(Span("✓ ", "good"), "collected at temperature 1"))
    else:
        scaled = report.get("logprob_mode") == "scaled"
        depends = "they depend on the sampling, so collect at temperature 1"
        lines.append(_warn(depends if scaled else "unknown whether the temperature changes them; at 1 it does not"))
        values |= sampled
    found = (*lines, *_price(report))
    return Found(found, _offer(values), tuple(values.items()), models=models)


def _too_many(most: int, draft: Draft) -> str:
    return f"{most} {'is' if most == 1 else 'are'} fewer than the {candidates(draft)} that will be asked for"


def _unset(draft: Draft, values: Mapping[str, str]) -> dict[str, str]:
    """Those of these settings that the draft has otherwise."""
    return {name: value for name, value in values.items() if draft.get(name) != value}


def _offer(values: Mapping[str, str]) -> str:
    """The words of the button that sets them."""
    most, at_1 = values.get(CANDIDATES), AT_TEMPERATURE_1.keys() & values.keys()
    if not most:
        return "Collect at temperature 1" if at_1 else ""
    noun = "candidate" if most == "1" else "candidates"
    return f"Ask for {most}, at temperature 1" if at_1 else f"Ask for {most} {noun}"


def _candidates(report: Mapping[str, Any]) -> str:
    largest = report.get("largest_k")
    if not largest:
        return ""
    return f", {largest} {'or more candidates' if report.get('largest_k_capped') else 'candidates'} a step"


def _models(models: tuple[str, ...], problem: str) -> Found:
    if not models:
        return Found((_warn(problem or "It lists no models; type the model's name."),), "Go to Model", field="MODEL")
    number = len(set(models))
    words = "It has 1 model." if number == 1 else f"It has {number:,} models; choose one below, or type its name."
    said = line(Span(words, "label"))
    return Found((said, *((_warn(problem),) if problem else ())), models=models)


def _price(report: Mapping[str, Any]) -> tuple[Line, ...]:
    price = report.get("price_usd_per_million")
    if not price or not any(price.values()):
        return ()
    text = f"  {dollars(price['input'])} in, {dollars(price['output'])} out per million tokens"
    return (line(Span(text, "label")),)


def _bad(text: str) -> Line:
    return line(Span("✗ ", "bad"), Span(text, "bad"))


def _warn(text: str) -> Line:
    return line(Span("! ", "warn"), Span(text, "warn"))


# -- keys ------------------------------------------------------------------------------------------------------------


_ASKS = {
    NO_VAULT: "a new vault, and asks for a passphrase",
    THE_VAULT: "the vault, and may ask to open it",
}
"""Places that ask for something before they take a key. A hint has two lines of 76 cells for all that it says."""


def key_hint(origin: str, end: str | None, place: str, act: str, *, typed: bool) -> str:
    """What a key's field says of where it is or will be kept: in `place` by the button `act`."""
    will = f"{act} keeps it in {_ASKS.get(place, place)}."
    if typed:
        return will
    if origin:
        shown = f", …{end}" if end else ""
        return f"One is there ({origin}{shown}); another replaces it."
    return will
