"""What `bitnet traces list`, `show`, `worst`, `rejects` and `browse` do. Heavy: imported when such a command runs.

`browse` answers requests on a pipe until it is closed, so that a program pays for the start once: a JSON object a
line, `{"ask": "list", "search": "tide", "offset": 0, "limit": 50, "by": "kl"}`, `{"ask": "show", "prompt_idx": 3}`,
`{"ask": "worst", "limit": 9}` or `{"ask": "rejects"}`. Each answer is one line too; one of an error has `problem`.
"""

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from bitnet_core import files
from bitnet_core.cli.command import answer, json_line, resolution, terminal_columns, warn
from bitnet_core.cli.piped import piped_lines
from bitnet_core.errors import BitnetError, UsageError
from bitnet_core.files.json_faults import json_fault
from bitnet_core.runs.experiment import Experiment
from bitnet_core.settings.resolved import Settings
from bitnet_core.settings.values import DataOptions
from bitnet_core.storage.steps import complete_steps
from bitnet_core.tables import render_table
from bitnet_core.text import share, significant
from bitnet_core.traces import inspect
from bitnet_core.traces.browse import Browser
from bitnet_core.traces.scores import FILE, About, DamagedScores, ScoreFile

_SHOWN_REJECTS = 3


class Request(msgspec.Struct):
    """A line of `browse`. What a request does not need is left out."""

    ask: str
    search: str = ""
    offset: int = 0
    limit: int = 50
    by: str = "number"
    turned: bool = False
    prompt_idx: int | None = None
    around: int | None = None


class Traces:
    """The traces of an experiment's settings, opened again whenever their files have changed."""

    def __init__(self, settings: Settings) -> None:
        self._experiment = Experiment.from_settings(settings)
        options = DataOptions.of(settings)
        self._data, self._top_k = options.path or self._experiment.data, options.top_k
        self._scores_path = self._experiment.reports / FILE
        self._opened: tuple[object, Browser, dict[str, Any]] | None = None

    def ask(self, question: Callable[[Browser], dict[str, Any]]) -> dict[str, Any]:
        """The answer, with `scored`: whose scores there are and why they are outdated; None without any.

        Damaged scores are left out, and `scores_problem` says so.
        """
        try:
            browser, about = self._open()
            return question(browser) | about
        except DamagedScores as error:
            browser, about = Browser(self._data, self._top_k), {"scored": None, "scores_problem": str(error)}
            self._opened = self._state(), browser, about
            return question(browser) | about

    def _open(self) -> tuple[Browser, dict[str, Any]]:
        state = self._state()
        if self._opened is None or self._opened[0] != state:
            scores = ScoreFile(self._scores_path) if os.path.lexists(self._scores_path) else None
            browser = Browser(self._data, self._top_k, scores)
            self._opened = state, browser, {"scored": self._about(scores, browser)}
        return self._opened[1], self._opened[2]

    def _state(self) -> object:
        paths = [*self._data.glob("*.parquet"), self._scores_path, *self._experiment.checkpoints.glob("*.json")]
        return sorted((str(path), stat.st_size, stat.st_mtime_ns) for path in paths if (stat := _stat(path)))

    def _about(self, scores: ScoreFile | None, browser: Browser) -> dict[str, Any] | None:
        if scores is None:
            return None
        about = scores.about
        changed = about.traces != browser.content_hash
        outdated = "the traces have changed" if changed else self._newer_than(about)
        return {
            "step": about.step,
            "checkpoint": about.checkpoint,
            "activation_bits": about.activation_bits,
            "scope": about.scope,
            "sequences": len(scores.prompt_idx_S),
            "mean_kl": scores.mean_kl(),
            "outdated": outdated,
        }

    def _newer_than(self, about: About) -> str:
        """Why another checkpoint than the scored one is the newest; empty if it is that one, or there is none."""
        folder = self._experiment.checkpoints
        steps = complete_steps([f"checkpoints/{path.name}" for path in folder.glob("mini_bitnet_step_*")])
        for step in steps:
            told = self._sha256(folder / f"mini_bitnet_step_{step:08d}_health.json")
            if told is None:  # such a checkpoint counts as incomplete, and is passed over
                continue
            if step > about.step:
                return f"the newest is step {step}"
            if step == about.step:
                return "" if told == about.sha256 else "that step was trained again"
            why = "its health file is damaged" if about.step in steps else "it is no longer there"
            return f"{why}; the newest complete one is step {step}"
        return ""

    @staticmethod
    def _sha256(health: Path) -> str | None:
        """Of the checkpoint that a health file tells of; None if that can't be read."""
        try:
            found = files.read_json(health)
        except BitnetError:
            return None
        told = found.get("sha256") if isinstance(found, dict) else None
        return told if isinstance(told, str) else None


def _stat(path: Path) -> Any:
    try:
        return path.stat()
    except OSError:
        return None


def run(arguments: argparse.Namespace) -> int:
    """The command's answer, as text or as a JSON line."""
    traces = Traces(resolution(arguments).settings)
    if arguments.action == "browse":
        return _browse(traces, arguments.requests)
    request = Request(
        arguments.action,
        search=arguments.search,
        offset=arguments.offset,
        limit=arguments.rows,
        by=arguments.by,
        prompt_idx=arguments.prompt,
    )
    if arguments.action == "show":
        found = traces.ask(lambda browser: browser.trace(arguments.prompt, arguments.rows))
    else:
        found = _answers(traces, request)
    if not arguments.json and "scores_problem" in found:
        warn(found["scores_problem"])
    answer(arguments, found, "" if arguments.json else _TEXTS[arguments.action](found))
    return 0


def _answers(traces: Traces, request: Request) -> dict[str, Any]:
    offset, limit = max(0, request.offset), max(0, request.limit)

    def found(browser: Browser) -> dict[str, Any]:
        match request.ask:
            case "list":
                return browser.page(request.search, offset, limit, request.by, request.around, turned=request.turned)
            case "show":
                return browser.trace(request.prompt_idx)
            case "worst":
                return {"tokens": browser.worst(limit, request.prompt_idx)}
            case "rejects":
                return {"rejected": browser.rejected(_SHOWN_REJECTS)}
            case _:
                raise BitnetError("The request asks for something other than list, show, worst or rejects.")

    return traces.ask(found)


def _browse(traces: Traces, requests: int | None) -> int:
    source = sys.stdin.fileno() if requests is None else requests
    # Whatever the locale; a line that is not text is a request that can't be read, and others come behind it.
    with os.fdopen(source, encoding="utf-8", errors="surrogateescape", closefd=requests is not None) as lines:
        for line in piped_lines(lines):
            try:
                if isinstance(line, UsageError):
                    raise line
                found = _answers(traces, msgspec.json.decode(line, type=Request))
            except BitnetError as error:
                found = {"problem": str(error)}
            except (msgspec.MsgspecError, RecursionError) as error:
                reason = json_fault(error, str(line).encode(errors="replace"))
                found = {"problem": f"The request can't be read ({reason})."}
            sys.stdout.write(json_line(found) + "\n")
            sys.stdout.flush()
    return 0


# -- text ----------------------------------------------------------------------------------------------------


def _list_text(found: dict[str, Any]) -> str:
    rows = [
        [
            str(one["prompt_idx"]),
            one["prompt"],
            one["tokens"],
            one["finish_reason"],
            "held out" if one["heldout"] else "",
            share(one["other"]),
            significant(one["kl"]),
        ]
        for one in found["sequences"]
    ]
    columns = ["N", "prompt", "tokens", "ended by", "", "mean Other", "mean KL"]
    first, last = found["offset"] + 1, found["offset"] + len(rows)
    which = f"{first} to {last} of {found['matched']}" if rows else f"none of {found['matched']}"
    parts = [render_table("traces", columns, rows, terminal_columns()), which, *_scored_lines(found)]
    return "\n\n".join(parts)


def _scored_lines(found: dict[str, Any]) -> list[str]:
    scored = found["scored"]
    if "scores_problem" in found:
        return []
    if scored is None:
        return ["No student was scored on them yet: `bitnet traces score` does that."]
    words = f"KL of the student of step {scored['step']} on {scored['sequences']} traces ({scored['scope']})"
    return [f"{words}; outdated, {scored['outdated']}." if scored["outdated"] else f"{words}."]


def _worst_text(found: dict[str, Any]) -> str:
    name = "kl" if found["tokens"] and "kl" in found["tokens"][0] else "other"
    rows = [
        [str(one["prompt_idx"]), one["position"], inspect.quoted(one["token"]), significant(one[name]), one["prompt"]]
        for one in found["tokens"]
    ]
    columns = ["N", "at", "token", "KL of the student" if name == "kl" else "Other", "prompt"]
    return "\n\n".join([render_table("worst tokens", columns, rows, terminal_columns()), *_scored_lines(found)])


def _rejects_text(found: dict[str, Any]) -> str:
    if not found["rejected"]:
        return "No answer was rejected."
    rows = [
        [
            one["reason"],
            one["answers"] if place == 0 else "",
            str(shown["prompt_idx"]),
            shown["prompt"],
            shown["answer"],
        ]
        for one in found["rejected"]
        for place, shown in enumerate(one["examples"])
    ]
    return render_table("rejected", ["reason", "answers", "N", "prompt", "answer"], rows, terminal_columns())


_TEXTS: dict[str, Callable[[dict[str, Any]], str]] = {
    "list": _list_text,
    "show": inspect.show_text,
    "worst": _worst_text,
    "rejects": _rejects_text,
}
