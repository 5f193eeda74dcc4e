"""The form for a new experiment: which fields a provider needs, what is wrong with them, the `.env` they give.

Bounds and help come from the registry of settings. The key is no part of the `.env`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bitnet_core.errors import UsageError
from bitnet_core.runs.experiment import is_name
from bitnet_core.settings.registry import REGISTRY
from bitnet_core.settings.resolve import from_values
from bitnet_core.teachers.profiles import PROVIDERS, Provider

NAME, TEACHER, PRESET, MODEL, ADDRESS, KEY = "NAME", "TEACHER_PROVIDER", "MINI_PRESET", "MODEL", "BASE_URL", "KEY"
NUMBERS = ("KD_NUM_PROMPTS", "TOTAL_STEPS", "BUDGET_TOKENS")
_LABELS = {
    NAME: "Name",
    TEACHER: "Teacher",
    MODEL: "Model",
    ADDRESS: "Address",
    KEY: "API key",
    PRESET: "Student",
    "KD_NUM_PROMPTS": "Prompts",
    "TOTAL_STEPS": "Steps",
    "BUDGET_TOKENS": "Token budget",
}
FIELDS = tuple(_LABELS)
ASKED = frozenset({TEACHER, MODEL, ADDRESS, KEY})
"""Fields that decide who is asked by a test, and how."""
_LISTED = 5
_PLAIN = re.compile(r"[\w./:@+,%=-]*", re.ASCII)


@dataclass(frozen=True)
class Field:
    name: str
    label: str
    hint: str
    default: str = ""
    choices: tuple[tuple[str, str], ...] = ()
    """(label, value) of a field where one is chosen."""
    secret: bool = False


def fields() -> tuple[Field, ...]:
    """Every field, in order."""
    return tuple(_field(name) for name in FIELDS)


def _field(name: str) -> Field:
    label = _LABELS[name]
    if name == NAME:
        return Field(name, label, "A folder of this name is made in the workspace.")
    if name == TEACHER:
        choices = tuple((provider.label, provider.name) for provider in PROVIDERS.values())
        return Field(name, label, REGISTRY[name].help, "embedded", choices)
    if name == MODEL:
        return Field(name, label, "The model's name as the provider spells it; for transformers a folder, too.")
    if name == ADDRESS:
        return Field(name, label, "Where the server listens; empty = the usual address.")
    if name == KEY:
        return Field(
            name, label, "Kept in the OS keyring or an encrypted vault. Empty = it is there already.", secret=True
        )
    setting = REGISTRY[name]
    choices = tuple((choice, choice) for choice in setting.choices)
    hint = setting.help if choices else f"{setting.help} {setting.allowed().capitalize()}."
    return Field(name, label, hint, setting.default, choices)


def needed(provider_name: str) -> frozenset[str]:
    """The fields that make sense for this provider."""
    provider = PROVIDERS[provider_name]
    wanted = {NAME, TEACHER, PRESET, *NUMBERS}
    if provider_name != "embedded":
        wanted.add(MODEL)
    if provider.needs_key or provider_name == "custom":
        wanted.add(KEY)
    if provider.wire != "transformers" and provider_name != "embedded" and (provider.local or not provider.base_url):
        wanted.add(ADDRESS)
    return frozenset(wanted)


def note(provider_name: str) -> tuple[str, str]:
    """What the provider can do, honestly, and the style to say it in."""
    provider = PROVIDERS[provider_name]
    if provider.logprobs == "no":
        return f"{provider.note} Traces can't be collected from it.", "warn"
    return provider.note, "label"


def question(values: Mapping[str, str]) -> dict[str, str]:
    """What a test has to know, of what is typed; fields that are not shown count as empty."""
    provider = values[TEACHER]
    shown = {name: values[name] if name in needed(provider) else "" for name in (MODEL, ADDRESS, KEY)}
    return {"provider": provider, "model": shown[MODEL], "base_url": shown[ADDRESS], "key": shown[KEY]}


def answer(report: Mapping[str, Any]) -> tuple[str, str]:
    """What a probe found, in a sentence or two, and the style to say it in."""
    problem = str(report.get("problem") or "")
    if not report.get("reachable") or not report.get("key_accepted"):
        return problem or "It gave no answer.", "bad"
    models = report.get("models") or []
    if not report.get("model"):
        listed = ", ".join(models[:_LISTED]) + (", …" if len(models) > _LISTED else "")
        return (f"It has {len(models)} models: {listed}. Name one.", "label") if models else (problem, "warn")
    if not report.get("chat"):
        return problem, "bad"
    said = f"It answers in {report['latency_s']:.1f} s"
    price = report.get("price_usd_per_million")
    cost = (
        f" ${price['input']:g} in and ${price['output']:g} out a million tokens."
        if price and any(price.values())
        else ""
    )
    if report.get("logprobs") is None:
        return f"{said}, but whether it gives logprobs was not found out ({problem.rstrip('.')}).{cost}", "warn"
    if not report["logprobs"]:
        return f"{said}, but gives no logprobs: good for chat and the baseline alone.{cost}", "warn"
    most = report.get("largest_k")
    if most is None:
        said += ", with logprobs"
    elif report.get("largest_k_capped"):
        said += f", with logprobs of {most} candidates a token or more"
    else:
        said += f", with logprobs of up to {most} candidates a token"
    if report.get("logprob_mode") == "scaled":
        return (
            f"{said}, bent by the temperature: collect with KD_TEACHER_TEMPERATURE=1 and KD_TEACHER_TOP_P=1.{cost}",
            "warn",
        )
    return f"{said}, true at any temperature.{cost}", "good"


def problems(values: Mapping[str, str], taken: frozenset[str]) -> dict[str, str]:
    """Field → what is allowed there, for every field that is wrong."""
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
    for number in NUMBERS:
        if not values.get(number):
            found[number] = REGISTRY[number].allowed()
            continue
        try:
            from_values({number: values[number]})
        except UsageError:
            found[number] = REGISTRY[number].allowed()
    return found


def key_name(provider_name: str) -> str:
    return PROVIDERS[provider_name].key_setting


def env_text(values: Mapping[str, str]) -> str:
    """The experiment's `.env`. It holds no secret: the key is in the keyring, the vault or the environment."""
    provider = PROVIDERS[values[TEACHER]]
    lines = [f"# Settings of {values[NAME]}; `bitnet config` lists the names.", f"TEACHER_PROVIDER={provider.name}"]
    lines += _server(values, provider)
    lines.append(f"MINI_PRESET={values[PRESET]}")
    lines += [f"{number}={values[number]}" for number in NUMBERS]
    return "\n".join(lines) + "\n"


def _server(values: Mapping[str, str], provider: Provider) -> list[str]:
    wanted = needed(provider.name)
    pairs = ((MODEL, provider.model_setting), (ADDRESS, provider.base_url_setting))
    return [
        f"{setting}={_quoted(values[field])}" for field, setting in pairs if field in wanted and values.get(field)
    ]


def _quoted(value: str) -> str:
    if _PLAIN.fullmatch(value):
        return value
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
