"""`bitnet providers`, `bitnet providers probe` and `bitnet chat`: what there is, what one can do, one answer.

Light: what asks a model is imported when it is asked.
"""

import argparse
import importlib
import json
import sys
from collections.abc import Callable
from typing import Any

from bitnet_core import secrets
from bitnet_core.cli import keys as keys_command
from bitnet_core.settings.registry import REGISTRY
from bitnet_core.settings.resolved import Resolution
from bitnet_core.teachers.profiles import PROVIDERS, Provider
from bitnet_core.text import render_table

_LISTED = 8


def providers(arguments: argparse.Namespace, resolution: Resolution, columns: int | None) -> int:
    """The table, or the report on one of them; `columns` is the terminal's width, if there is one."""
    if arguments.action == "probe":
        return _probe(arguments, resolution, columns)
    chosen = {resolution.settings.text(name) for name in ("PROVIDER", "TEACHER_PROVIDER")}
    rows = []
    for one in PROVIDERS.values():
        if arguments.json:
            fields = {
                "name": one.name,
                "label": one.label,
                "wire": one.wire,
                "base_url": _address(one, resolution),
                "needs_key": one.needs_key,
                "key_setting": one.key_setting,
                "logprobs": one.logprobs,
                "max_top_logprobs": one.max_top_logprobs,
                "token_ids": one.token_ids,
                "note": one.note,
                "source": one.source,
                "chosen": one.name in chosen,
            }
            sys.stdout.write(json.dumps(fields) + "\n")
        use = (
            "traces" if one.logprobs == "yes" else "chat, baseline" if one.logprobs == "no" else "traces, some models"
        )
        key = resolution.secret_origins.get(one.key_setting, "")
        need = ("needed" if one.needs_key else "none") if not key else "set"
        rows.append([("▸ " if one.name in chosen else "  ") + one.name, use, one.max_top_logprobs, need, one.source])
    if not arguments.json:
        text = render_table("providers", ["  name", "good for", "most k", "key", "known from"], rows, columns)
        sys.stdout.write(
            text + "\n\n`bitnet providers probe NAME` asks a model itself, with requests of one token.\n"
        )
    return 0


def _address(provider: Provider, resolution: Resolution) -> str:
    given = provider.base_url_setting in REGISTRY and resolution.settings.text(provider.base_url_setting)
    return given or provider.base_url


def _probe(arguments: argparse.Namespace, resolution: Resolution, columns: int | None) -> int:
    found = importlib.import_module("bitnet_core.cli.ask").probe(
        resolution.settings, arguments.provider, arguments.model, _finder(resolution), _notice
    )
    report: dict[str, Any] = secrets.redactor().tree(found)  # a server may list the key among its models
    if arguments.json:
        sys.stdout.write(json.dumps(report) + "\n")
    else:
        rows = [[name.replace("_", " "), _said(value)] for name, value in _shown(report).items()]
        sys.stdout.write(render_table(f"{report['provider']}", ["what", "found"], rows, columns) + "\n")
        if report["problem"]:
            sys.stdout.write(f"! {report['problem']}\n")
        elif report["logprobs"] is False:
            sys.stdout.write("! No logprobs: good for chat and the baseline, not for collecting traces.\n")
        elif not report["model"]:
            sys.stdout.write("! No model is set; give one of these with --model.\n")
    return 0 if report["reachable"] and report["key_accepted"] and report["chat"] is not False else 1


def _shown(report: dict[str, Any]) -> dict[str, Any]:
    """What the report says, in the words of a table."""
    left_out = {"problem"} if report["upstream"] else {"problem", "upstream"}
    shown = {name: value for name, value in report.items() if name not in left_out}
    models, price = shown.pop("models"), shown.pop("price_usd_per_million")
    if shown.pop("largest_k_capped"):
        shown["largest_k"] = f"{shown['largest_k']} or more"
    shown["models"] = None if models is None else f"{len(models)}: " + ", ".join(models[:_LISTED])
    shown["price, USD a million"] = price and f"{price['input']:g} in, {price['output']:g} out"
    return shown


def _said(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3g}"
    return {None: "not known", True: "yes", False: "no", "": "–"}.get(value, str(value))


def chat(arguments: argparse.Namespace, resolution: Resolution, prompt: str) -> int:
    """One answer, shown as it comes; what ends it early starts on a line of its own."""
    shown = False

    def on_text(text: str) -> None:
        nonlocal shown
        if not arguments.json:
            shown = True
            sys.stdout.write(text)
            sys.stdout.flush()

    command = importlib.import_module("bitnet_core.cli.ask")
    try:
        result = command.chat(resolution.settings, prompt, _finder(resolution), _notice, on_text)
    finally:
        if shown:
            sys.stdout.write("\n")
            sys.stdout.flush()
    if arguments.json:
        usage = {
            "prompt_tokens": result.prompt_tokens or None,
            "completion_tokens": result.completion_tokens if result.counted else None,
        }
        fields = {"text": result.text, "finish_reason": result.finish_reason, "usage": usage}
        sys.stdout.write(json.dumps(fields) + "\n")
    elif not shown:
        sys.stdout.write(result.text + "\n")
    return 0


def _finder(resolution: Resolution) -> Callable[[tuple[str, ...]], dict[str, str]]:
    """Looks keys up where stages get them from."""

    def find(names: tuple[str, ...]) -> dict[str, str]:
        found = secrets.gather(names, resolution, ask=keys_command.ask_passphrase)
        return {name: secret.value for name, secret in found.items()}

    return find


def _notice(text: str) -> None:
    sys.stderr.write(secrets.redactor()(f"bitnet: {text}\n"))
