"""The form for a new experiment: which fields a provider needs, what is wrong with them, the `.env` they make.

Limits and help come from the registry of settings. The key never goes into the `.env`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bitnet_core.errors import UsageError
from bitnet_core.runs.experiment import is_name
from bitnet_core.settings.registry import REGISTRY
from bitnet_core.settings.resolve import from_values
from bitnet_core.teachers.profiles import PROVIDERS
from bitnet_core.text import dollars, significant

NAME, TEACHER, PRESET, MODEL, ADDRESS, KEY = "NAME", "TEACHER_PROVIDER", "MINI_PRESET", "MODEL", "BASE_URL", "KEY"
NUMBERS = ("KD_NUM_PROMPTS", "TOTAL_STEPS", "BUDGET_TOKENS")
EMBEDDED, CUSTOM = "embedded", "custom"
_LABELS_AND_HINTS = {
    NAME: ("Name", "The name of the experiment's folder in the workspace."),
    TEACHER: ("Teacher", ""),
    MODEL: ("Model", "The model's name as the provider spells it; for transformers also a folder."),
    ADDRESS: ("Address", "Where the server listens; empty = the usual address."),
    KEY: ("API key", "It goes to the OS keyring or an encrypted vault. Empty = a key is already there."),
    PRESET: ("Student", ""),
    "KD_NUM_PROMPTS": ("Prompts", ""),
    "TOTAL_STEPS": ("Steps", ""),
    "BUDGET_TOKENS": ("Token budget", ""),
}
"""Without a hint, the registry's help of the setting is shown."""
ASKED = frozenset({TEACHER, MODEL, ADDRESS, KEY})
"""The fields that a test of the model depends on."""
_MOST_MODELS_SHOWN = 5
_NEEDS_NO_QUOTES = re.compile(r"[\w./:@+,%=-]*", re.ASCII)


@dataclass(frozen=True)
class Field:
    name: str
    label: str
    hint: str
    default: str = ""
    choices: tuple[tuple[str, str], ...] = ()
    """(label, value) of each choice; empty for a field that is typed."""
    secret: bool = False


def fields() -> tuple[Field, ...]:
    """Every field, in order."""
    return tuple(_field(name, label, hint) for name, (label, hint) in _LABELS_AND_HINTS.items())


def _field(name: str, label: str, hint: str) -> Field:
    if hint:
        return Field(name, label, hint, secret=name == KEY)
    setting = REGISTRY[name]
    if name == TEACHER:
        providers = tuple((provider.label, provider.name) for provider in PROVIDERS.values())
        return Field(name, label, setting.help, EMBEDDED, providers)
    choices = tuple((choice, choice) for choice in setting.choices)
    hint = setting.help if choices else f"{setting.help} {setting.allowed().capitalize()}."
    return Field(name, label, hint, setting.default, choices)


def needed(provider_name: str) -> frozenset[str]:
    """The fields that this provider needs."""
    provider = PROVIDERS[provider_name]
    wanted = {NAME, TEACHER, PRESET, *NUMBERS}
    if provider_name != EMBEDDED:
        wanted.add(MODEL)
    if provider.needs_key or provider_name == CUSTOM:
        wanted.add(KEY)
    if provider.wire != "transformers" and provider_name != EMBEDDED and (provider.local or not provider.base_url):
        wanted.add(ADDRESS)
    return frozenset(wanted)


def note(provider_name: str) -> tuple[str, str]:
    """What the provider can and can't do, and the style to show it in."""
    provider = PROVIDERS[provider_name]
    if provider.logprobs == "no":
        return f"{provider.note} Traces can't be collected from it.", "warn"
    return provider.note, "label"


# -- testing the model ---------------------------------------------------------------------------------------------


def question(values: Mapping[str, str]) -> dict[str, Any]:
    """What `Probe` asks with, from what was typed; a field that is not shown counts as empty."""
    provider = PROVIDERS[values[TEACHER]]
    shown = {name: values[name] if name in needed(provider.name) else "" for name in (MODEL, ADDRESS, KEY)}
    settings = {TEACHER: provider.name}
    if shown[ADDRESS]:
        settings[provider.base_url_setting] = shown[ADDRESS]
    return {"provider": provider.name, "model": shown[MODEL], "values": settings, "key": shown[KEY]}


def missing_for_test(values: Mapping[str, str]) -> dict[str, str]:
    """Field → what is missing, for a provider that can't be asked without a model and an address."""
    if values[TEACHER] != CUSTOM:
        return {}
    wrong = problems(values, frozenset())
    return {name: wrong[name] for name in (MODEL, ADDRESS) if name in wrong and not values.get(name)}


def answer(report: Mapping[str, Any]) -> tuple[str, str]:
    """What a probe found, in a sentence or two, and the style to show it in."""
    problem = str(report.get("problem") or "")
    if not report.get("reachable") or not report.get("key_accepted"):
        return problem or "It gave no answer.", "bad"
    if not report.get("model"):
        return _models(report.get("models") or [], problem)
    if not report.get("chat"):
        return problem, "bad"
    said = f"It answers in {significant(report['latency_s'], 2)} s"
    cost = _cost(report.get("price_usd_per_million"))
    if report.get("logprobs") is None:
        return f"{said}, but it is unknown whether it gives logprobs ({problem.rstrip('.')}).{cost}", "warn"
    if not report["logprobs"]:
        return f"{said}, but gives no logprobs: good for chat and the baseline only.{cost}", "warn"
    said += f", with logprobs{_candidates(report)}"
    if report.get("logprob_mode") == "scaled":
        advice = "collect with KD_TEACHER_TEMPERATURE=1 and KD_TEACHER_TOP_P=1"
        return f"{said}, which the sampling distorts: {advice}.{cost}", "warn"
    if report.get("logprob_mode") == "unmeasured":
        return f"{said}, but it takes no temperature, so it is unknown whether they are exact.{cost}", "warn"
    return f"{said}, exact at any temperature.{cost}", "good"


def _models(models: list[str], problem: str) -> tuple[str, str]:
    if not models:
        return problem, "warn"
    listed = ", ".join(models[:_MOST_MODELS_SHOWN]) + (", …" if len(models) > _MOST_MODELS_SHOWN else "")
    return f"It has {len(models)} models: {listed}. Choose one.", "label"


def _candidates(report: Mapping[str, Any]) -> str:
    most = report.get("largest_k")
    if most is None:
        return ""
    if report.get("largest_k_capped"):
        return f" of {most} or more candidates per token"
    return f" of up to {most} candidates per token"


def _cost(price: Mapping[str, float] | None) -> str:
    if not price or not any(price.values()):
        return ""
    return f" {dollars(price['input'])} in and {dollars(price['output'])} out per million tokens."


# -- making the experiment -----------------------------------------------------------------------------------------


def problems(values: Mapping[str, str], taken: frozenset[str]) -> dict[str, str]:
    """Field → what is allowed there, for every field that is wrong. `taken` are names that exist already."""
    found: dict[str, str] = {}
    name = values.get(NAME, "")
    if not is_name(name):
        found[NAME] = "letters, digits, . _ -" if name else "give it a name"
    elif name in taken:
        found[NAME] = "exists already"
    provider = PROVIDERS[values[TEACHER]]
    wanted = needed(provider.name)
    if MODEL in wanted and not values.get(MODEL):
        found[MODEL] = "which model?"
    if ADDRESS in wanted and not provider.base_url and not values.get(ADDRESS):
        found[ADDRESS] = "which address?"
    for field in (MODEL, ADDRESS):
        if "${" in values.get(field, "") or not values.get(field, "").isprintable():
            found[field] = "plain text only"
    found |= {name: REGISTRY[name].allowed() for name in NUMBERS if not _is_allowed(name, values.get(name, ""))}
    return found


def _is_allowed(name: str, value: str) -> bool:
    try:
        from_values({name: value})
    except UsageError:
        return False
    return bool(value) or not REGISTRY[name].default


def env_text(values: Mapping[str, str]) -> str:
    """The experiment's `.env`, without secrets."""
    provider = PROVIDERS[values[TEACHER]]
    lines = [f"# Settings of {values[NAME]}; `bitnet config` lists the names.", f"{TEACHER}={provider.name}"]
    for field, setting in ((MODEL, provider.model_setting), (ADDRESS, provider.base_url_setting)):
        if field in needed(provider.name) and values.get(field):
            lines.append(f"{setting}={_quoted(values[field])}")
    lines += [f"{name}={values[name]}" for name in (PRESET, *NUMBERS) if values[name]]
    return "\n".join(lines) + "\n"


def _quoted(value: str) -> str:
    if _NEEDS_NO_QUOTES.fullmatch(value):
        return value
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
