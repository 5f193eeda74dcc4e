"""`bitnet providers`, `bitnet providers probe` and `bitnet chat`: the table, what one model can do, one answer.

Only `ask.py` and `students.py` import the heavy half; they are loaded when a model is asked.
"""

import argparse
import sys
from typing import Any

from bitnet_core.cli.command import Commands, answer, answer_table, resolution, terminal_columns
from bitnet_core.cli.export import patient_threads
from bitnet_core.cli.piped import question
from bitnet_core.files.typed import typed_path

_MOST_MODELS_SHOWN = 8
_FIELDS = (
    *("name", "label", "wire", "base_url", "needs_key", "key_setting", "logprobs", "max_top_logprobs"),
    *("token_ids", "note", "source"),
)
_GOOD_FOR = {"yes": "traces", "no": "chat, baseline"}


def add_to(commands: Commands) -> None:
    providers = commands.add("providers", "list the providers and what they can do, or ask one", _list)
    actions = providers.add_subparsers(dest="action", metavar="probe", title="actions")
    probe = actions.add_parser("probe", help="ask a model what it can do, with a few short requests")
    probe.add_argument("provider", metavar="NAME", help="such as openai; `bitnet providers` lists them")
    probe.add_argument("--model", default="", help="the model (default: the one in the settings)")
    probe.set_defaults(handler=_probe)
    chat = commands.add("chat", "ask the chat provider (PROVIDER) one question; Ctrl-C gives up", _chat)
    chat.add_argument("prompt", nargs="?", metavar="TEXT", help="the question (default: read from stdin)")
    chat.add_argument(
        "--student",
        type=typed_path,
        metavar="RUN",
        help="let the student of an experiment's folder or checkpoint answer too",
    )


# -- the table -----------------------------------------------------------------------------------------------------


def _list(arguments: argparse.Namespace) -> int:
    from bitnet_core.settings.values import TeacherOptions
    from bitnet_core.teachers.profiles import PROVIDERS

    resolved = resolution(arguments)
    options = TeacherOptions.of(resolved.settings)
    chosen = {options.chat_provider, options.provider}
    rows, records = [], []
    for one in PROVIDERS.values():
        record = {name: getattr(one, name) for name in _FIELDS}
        record["base_url"] = options.addresses.get(one.name) or one.base_url
        records.append(record | {"chosen": one.name in chosen})
        good_for = _GOOD_FOR.get(one.logprobs, "traces, some models")
        key = "needed" if one.needs_key else "none"
        if resolved.secret_origins.get(one.key_setting):
            key = "set"
        mark = "◉ " if one.name in chosen else "  "
        rows.append([mark + one.name, good_for, one.max_top_logprobs, key, one.source])
    answer_table(arguments, "providers", ["  name", "good for", "max k", "key", "known from"], rows, records)
    if not arguments.json:
        sys.stdout.write("\n`bitnet providers probe NAME` asks a model itself, with a few short requests.\n")
    return 0


# -- one model -----------------------------------------------------------------------------------------------------


def _probe(arguments: argparse.Namespace) -> int:
    resolved = resolution(arguments)
    from bitnet_core.cli import ask
    from bitnet_core.secrets.known import redactor
    from bitnet_core.tables import render_table

    found = ask.probe(resolved, arguments.provider, arguments.model)
    report: dict[str, Any] = redactor().tree(found)  # a server may list the key among its models
    rows = [[name.replace("_", " "), value] for name, value in _shown_fields(report).items()]
    table = render_table(report["provider"], ["what", "found"], rows, terminal_columns())
    answer(arguments, report, "\n".join([table, *(f"! {line}" for line in _conclusion(report))]))
    return 0 if report["reachable"] and report["key_accepted"] and report["chat"] is not False else 1


def _shown_fields(report: dict[str, Any]) -> dict[str, Any]:
    """The report as the rows of a table for people."""
    from bitnet_core.text import dollars

    shown = {name: value for name, value in report.items() if name != "problem"}
    shown |= {"refused_sampling": ", ".join(report["refused_sampling"] or ())}
    for name in ("upstream", "refused_sampling"):
        if not shown[name]:
            del shown[name]
    models, price = shown.pop("models"), shown.pop("price_usd_per_million")
    if shown.pop("largest_k_capped"):
        shown["largest_k"] = f"{shown['largest_k']} or more"
    shown["models"] = None if models is None else f"{len(models)}: " + ", ".join(models[:_MOST_MODELS_SHOWN])
    shown["price per million"] = price and f"{dollars(price['input'])} in, {dollars(price['output'])} out"
    return {name: "unknown" if value is None else value for name, value in shown.items()}


def _conclusion(report: dict[str, Any]) -> list[str]:
    if report["problem"]:
        return [report["problem"]]
    if report["logprobs"] is False:
        return ["No logprobs: good for chat and the baseline, not for collecting traces."]
    return [] if report["model"] else ["No model is set; choose one of these with --model."]


# -- one answer ----------------------------------------------------------------------------------------------------


def _chat(arguments: argparse.Namespace) -> int:
    """The answer is shown as it arrives; an error that cuts it short starts on its own line."""
    prompt = question(arguments.prompt, "chat")
    resolved = resolution(arguments)
    beside = None
    if arguments.student is not None:
        patient_threads()
        from bitnet_core.cli.students import Beside

        beside = Beside(arguments, prompt)
    from bitnet_core.cli import ask

    if beside is not None and not arguments.json:
        sys.stdout.write(f"── {ask.chat_name(resolved)}\n")
        sys.stdout.flush()
    streamed = False

    def on_text(text: str) -> None:
        nonlocal streamed
        if not arguments.json:
            streamed = True
            sys.stdout.write(text)
            sys.stdout.flush()

    try:
        result = ask.chat(resolved, prompt, on_text)
    finally:
        if streamed:
            sys.stdout.write("\n")
            sys.stdout.flush()
    usage = {
        "prompt_tokens": result.prompt_tokens or None,
        "completion_tokens": result.completion_tokens if result.counted else None,
    }
    fields = {"text": result.text, "finish_reason": result.finish_reason, "usage": usage}
    if beside is not None and arguments.json:
        fields["student"] = beside.answer()
    if arguments.json or not streamed:
        answer(arguments, fields, result.text)
    if beside is not None and not arguments.json:
        sys.stdout.write(f"── {beside.name}\n")
        beside.answer()
    return 0
