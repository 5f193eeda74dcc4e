"""A made-up place for pictures: a workspace copied from a finished demo, a still clock, a machine of no one.

What runs there is the demo's own runs, cut in their middle; what is added to one is said in the pictures' captions.
"""

import json
import os
import shutil
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

from bitnet_core import process
from bitnet_core.cli.main import main as bitnet
from bitnet_core.errors import BitnetError, UsageError
from bitnet_core.files.user_folders import cache_folder
from bitnet_core.runs.around import LoadReader
from bitnet_core.secrets import vault
from bitnet_core.settings.registry import REGISTRY
from bitnet_tui.screens.guide.screen import NewExperimentScreen
from bitnet_tui.services import planning
from tests.tui.plans import PLAN, TIMED
from tests.tui.simulated import start_process

HOME = Path("/tmp/ada")
"""It is in the pictures."""
WORKSPACE = HOME / "experiments"
COPIES = HOME / "copies"
_HOST = "workstation"
_MEMORY, _FREE, _DISK = 33_500_000_000, 23_035_834_368, 412_000_000_000
_SINCE = 390.0
"""Seconds from the end of the newest run to the moment of the pictures."""
Event = dict[str, Any]


class _Disk(NamedTuple):
    total: int
    used: int
    free: int


def _records(root: Path) -> Iterator[tuple[Path, Event]]:
    for path in sorted(root.glob("logs/*/run.json")):
        yield path, json.loads(path.read_text())


def _moment(roots: list[Path]) -> float:
    ends = [record["ended"] or 0.0 for root in roots for _, record in _records(root)]
    return max(ends, default=0.0) + _SINCE


@contextmanager
def made_up(demo: Path, other: Path) -> Iterator[None]:
    """The place, while the context lasts. UsageError if `demo` is not a finished experiment, or HOME is taken.

    `other` is a second training with the same traces. Both are only read.
    """
    for root in (demo, other):
        if not list(root.glob("checkpoints/*.pt")):
            raise UsageError(f"{root} has no checkpoint; `make pictures` makes both experiments first.")
    if HOME.exists():
        raise UsageError(f"{HOME} is there already; move it away, as the pictures are made in it.")
    cache, here, environment = cache_folder(), Path.cwd(), dict(os.environ)
    now = _moment([demo, other])
    folders = {"CACHE": ".cache", "CONFIG": ".config", "DATA": ".local/share", "STATE": ".local/state"}
    with mock.patch.dict(os.environ), _still(now):
        for name in (*REGISTRY, "SSH_CONNECTION", "NO_COLOR", "TEXTUAL_THEME"):
            os.environ.pop(name, None)
        os.environ.update(
            {f"XDG_{name}_HOME": str(HOME / folder) for name, folder in folders.items()}
            | {"HOME": str(HOME), "LOGNAME": "ada", "TZ": "UTC", "TERM": "xterm-256color", "COLORTERM": "truecolor"}
            | {"BITNET_KEYRING": "none", "HF_HUB_OFFLINE": "1"}
        )
        time.tzset()
        children: list[Any] = []
        try:
            WORKSPACE.mkdir(parents=True)
            own = cache_folder()
            own.mkdir(parents=True)
            (own / "teacher").symlink_to(cache / "teacher")
            os.chdir(HOME)
            _furnish(demo.absolute(), other.absolute(), now, children)
            yield
        finally:
            for child in children:
                child.kill()
                child.communicate()
            os.chdir(here)
            shutil.rmtree(HOME)
    assert dict(os.environ) == environment
    time.tzset()


@contextmanager
def _still(now: float) -> Iterator[None]:
    """The clock stands, and the machine is one that is named and measured here."""
    with (
        mock.patch.object(time, "time", lambda: now),
        mock.patch.object(socket, "gethostname", lambda: _HOST),
        mock.patch.object(process, "memory", lambda: (_FREE, _MEMORY)),
        mock.patch.object(planning, "memory", lambda: (_FREE, _MEMORY)),
        mock.patch.object(shutil, "disk_usage", lambda _: _Disk(2 * _DISK, _DISK, _DISK)),
        mock.patch.object(LoadReader, "_cpu", lambda _: 0.87),
        mock.patch.object(LoadReader, "_gpus", lambda _: iter(())),
        mock.patch.object(planning.Plan, "run", lambda plan: PLAN if "--no-probe" in plan.arguments else TIMED),
        mock.patch.object(NewExperimentScreen, "LOOK_SECONDS", 0.0),
    ):
        yield


def _furnish(demo: Path, other: Path, now: float, children: list[Any]) -> None:
    shutil.copytree(demo, WORKSPACE / "demo")
    shutil.copytree(other, WORKSPACE / "half-rate")
    for name in ("demo", "half-rate"):
        _moved(WORKSPACE / name)
    child = start_process()
    children.append(child)
    _running(demo, "long-run", "train", now, child.pid, lambda events: _of_training(events, 2 / 3))
    _running(demo, "with-a-price", "collect", now, child.pid, _priced, KD_MAX_USD="0.50", KD_MAX_REQUESTS="400")
    _running(demo, "high-rate", "train", now, child.pid, _not_finite, LR="1e-2")
    COPIES.mkdir()
    with (WORKSPACE / "demo" / ".env").open("a") as env:
        env.write(f"\nSTORAGE_LOCAL_DIR={COPIES}\nSTORAGE_SYNC=end\n")
    if bitnet(["store", "push", "--root", str(WORKSPACE / "demo")]):
        raise BitnetError("The demo's copy, which the pictures show, could not be made; see above.")
    (HOME / "nothing").mkdir()
    vault.create(HOME / "vault.json", "correct horse").set("OPENAI_API_KEY", "sk-a-key-of-nobody")
    locked = HOME / "locked" / "hosted"
    locked.mkdir(parents=True)
    locked.joinpath(".env").write_text(
        f"TEACHER_PROVIDER=openai\nTEACHER_MODEL=gpt-4.1-mini\nBITNET_VAULT={HOME / 'vault.json'}\n"
    )


def _moved(root: Path) -> None:
    """Let records and events be of this place, and of a boot that is over."""
    for path, record in _records(root):
        folder = str(Path(record["folder"]).parents[1])
        for one in (path, path.with_name("events.jsonl"), *root.glob("reports/*.json")):
            text = one.read_text()
            one.write_text(
                text.replace(folder, str(root)).replace(f'"host": "{record["host"]}"', f'"host": "{_HOST}"')
            )
        path.write_text(json.dumps(json.loads(path.read_text()) | {"boot_id": "an earlier boot"}))


def _running(
    demo: Path, name: str, stage: str, now: float, pid: int, cut: Callable[[list[Event]], list[Event]], **more: str
) -> None:
    """An experiment in which the demo's run of this stage goes on: its events as `cut` leaves them, the last one now.

    `more` are settings.
    """
    root = WORKSPACE / name
    for folder in ("logs", "reports"):
        (root / folder).mkdir(parents=True)
    shutil.copy2(demo / "reports" / "teacher_baseline.json", root / "reports")
    if stage == "train":
        shutil.copytree(demo / "data", root / "data")
    settings = {line.partition("=")[0]: line for line in (demo / ".env").read_text().splitlines() if "=" in line}
    settings |= {key: f"{key}={value}" for key, value in more.items()}
    (root / ".env").write_text("\n".join(settings.values()) + "\n")
    for path, _ in _records(demo):
        if path.parent.name.startswith(("teacher", "collect", stage)):
            shutil.copytree(path.parent, root / "logs" / path.parent.name)
    _moved(root)
    path = next(root.glob(f"logs/{stage}-*/run.json"))
    events = cut([json.loads(line) for line in path.with_name("events.jsonl").read_text().splitlines()])
    shift = now - 2 - events[-1]["t"]
    lines = (json.dumps(event | {"t": event["t"] + shift}) for event in events)
    path.with_name("events.jsonl").write_text("".join(f"{line}\n" for line in lines))
    record, identity = json.loads(path.read_text()), process.identify(pid)
    assert identity is not None
    uptimes = dict.fromkeys(("created_uptime", "started_uptime", "ended_uptime"))
    ended = {"state": "running", "ended": None, "exit_code": None, "error": None, "summary": {}}
    began = {key: record[key] + shift for key in ("created", "started")}
    alive = {"pid": pid, "process_start": identity.start, "boot_id": identity.boot_id}
    found = record["settings"] | {key: json.loads(value) for key, value in more.items()}
    path.write_text(json.dumps(record | uptimes | ended | began | alive | {"settings": found}))


def _priced(events: list[Event]) -> list[Event]:
    """Of the demo's answers, as if their tokens had a price and the server had asked for fewer requests."""

    def paid(event: Event) -> Event:
        if event["kind"] != "metric":
            return event
        return event | {"spent_usd": event["spent_tokens"] * 9e-6, "waits_for": "the server takes 4 at once"}

    return [paid(event) for event in events[: len(events) * 3 // 5]]


def _of_training(events: list[Event], share: float) -> list[Event]:
    """The events until this share of the training's steps was told; what comes before the first is long as well."""
    told = [place for place, event in enumerate(events) if event["kind"] == "metric"]
    return events[: told[int(len(told) * share)] + 1]


def _not_finite(events: list[Event]) -> list[Event]:
    """Of the demo's training, as if its loss had been lost: three reports without one, and what is then told."""
    kept = _of_training(events, 1 / 3)
    last: Mapping[str, Any] = kept[-1]
    a_step, bad = last["seen_tokens"] / last["step"], []
    for place in range(1, 4):
        figures = {"step": last["step"] + 5 * place, "seen_tokens": round(last["seen_tokens"] + 5 * place * a_step)}
        at = {"t": kept[-1]["t"] + 4.0 * place, "seq": kept[-1]["seq"] + 2 * place}
        lost = dict.fromkeys(("loss", "kl", "ce", "format", "grad_norm"))
        message = f"The loss after step {figures['step']} was not finite (loss nan, gradient norm nan)"
        bad += [
            {"kind": "alert", "v": 1, **at, "severity": "warning", "code": "nonfinite",
             "message": f"{message}; the step was skipped.",
             "advice": "If it happens again, lower LR or GRAD_CLIP_NORM."},
            {**last, **figures, **at, "seq": at["seq"] + 1, **lost, "nonfinite": 5 * place},
        ]  # fmt: skip
    return kept + bad
