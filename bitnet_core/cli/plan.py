"""`bitnet plan`: what a training will take, before anything is started."""

import argparse
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from bitnet_core.cli.command import Commands, answer, overrides, resolution, terminal_columns
from bitnet_core.cli.silence import doing
from bitnet_core.errors import BitnetError, UsageError
from bitnet_core.settings.presets import PLANNED

if TYPE_CHECKING:
    from bitnet_core.planning.plan import Asked
    from bitnet_core.planning.teacher import TeacherPlan
    from bitnet_core.settings.resolved import Settings


def add_to(commands: Commands) -> None:
    plan = commands.add("plan", "memory, time, disk, teacher tokens and money of a training, before it starts", _plan)
    plan.add_argument("--preset", choices=PLANNED, help="a shape instead of MINI_PRESET")
    plan.add_argument("--budget", type=int, metavar="TOKENS", help="instead of BUDGET_TOKENS")
    plan.add_argument("--vocab", type=int, metavar="N", help="vocabulary size (default: that of the traces)")
    plan.add_argument("--context", type=int, default=2048, metavar="N", help="tokens of the deployed KV cache")
    plan.add_argument("--devices", type=int, default=1, metavar="N", help="also with weights sharded over N devices")
    plan.add_argument("--device", choices=("cpu", "cuda", "mps"), help="the kind of device of another machine")
    plan.add_argument("--memory-gb", type=float, metavar="GB", help="the memory of a device of another machine")
    plan.add_argument("--tokens-per-s", type=float, metavar="X", help="supervised tokens/s, instead of timing steps")
    plan.add_argument("--no-probe", action="store_true", help="don't time steps on this machine")
    plan.add_argument(
        "--early",
        action="store_true",
        help="with --json: first a line with what is known at once (`early`), if anything is",
    )
    plan.add_argument(
        "--again", action="store_true", help="time steps even if this machine has timed the same before"
    )


def _plan(arguments: argparse.Namespace) -> int:
    for name in ("budget", "vocab", "context", "devices", "memory_gb", "tokens_per_s"):
        value = getattr(arguments, name)
        if value is not None and not 0 < value < 1e15:
            raise UsageError(f"--{name.replace('_', '-')} is {value}; give a number above 0.")
    if arguments.budget is not None:
        if "BUDGET_TOKENS" in overrides(arguments):
            raise UsageError("--budget and --set BUDGET_TOKENS are the same; give one of them.")
        arguments.assignments.append(f"BUDGET_TOKENS={arguments.budget}")
    settings = resolution(arguments).settings
    from bitnet_core.planning import plan
    from bitnet_core.planning.tables import tables
    from bitnet_core.settings.values import DataOptions, TrainOptions
    from bitnet_core.tables import render_table

    elsewhere = arguments.memory_gb is not None or arguments.device is not None
    time = not (arguments.no_probe or elsewhere or arguments.tokens_per_s is not None)
    asked = plan.Asked(
        devices=arguments.devices,
        context=arguments.context,
        device=arguments.device,
        memory_bytes=None if arguments.memory_gb is None else round(arguments.memory_gb * 1e9),
        tokens_per_s=arguments.tokens_per_s,
    )
    early = partial(_say_early, settings, arguments, asked)
    facts = _examined(settings, arguments, early if arguments.early and arguments.json else lambda: None, time=time)
    teacher = _teacher(settings, facts["traces"])
    record = plan.plan(facts, TrainOptions.of(settings), DataOptions.of(settings).top_k, teacher, asked)
    shown = [render_table(name, columns, rows, terminal_columns()) for name, columns, rows in tables(record)]
    answer(arguments, record, "\n".join(shown))
    return 0


def _say_early(settings: "Settings", arguments: argparse.Namespace, asked: "Asked") -> None:
    """Write what is known already. What is wrong is said at the end."""
    from bitnet_core.planning.early import early_plan

    here = asked == replace(asked, device=None, memory_bytes=None)
    whole = here and arguments.preset is None and arguments.vocab is None
    with suppress(BitnetError):
        record = early_plan(settings, _teacher(settings, None), asked) if whole else None
        if record is not None:
            answer(arguments, record, "")
            sys.stdout.flush()


def _examined(
    settings: "Settings", arguments: argparse.Namespace, meanwhile: Callable[[], None], *, time: bool
) -> dict[str, Any]:
    """What a process of its own finds out about this machine and the traces; it may take a minute if it times.

    `meanwhile` is called once that process has begun, which takes seconds.
    """
    import json
    import subprocess

    from bitnet_core.process import PATIENT_THREADS, last_line, lines_of, pipe_of, start_helper
    from bitnet_core.secrets.handover import child_environment

    job = {
        "settings": settings.to_record(),
        "preset": arguments.preset,
        "vocabulary": arguments.vocab,
        "time": time,
        "again": arguments.again,
    }
    environment = PATIENT_THREADS | child_environment(settings.values, ())
    timing = "timing a few training steps and decoding; --no-probe leaves that out"
    doing(timing if time else "looking at this machine and the traces")
    with tempfile.TemporaryFile("w+") as log:
        child = start_helper("bitnet_core.planning.probe", job, log, environment)
        try:
            meanwhile()
            lines = lines_of(child, "The process that looks at this machine")
            line = next(filter(None, lines), "")  # blank ones are signs of life
            if not line:  # how it ended says why
                with suppress(subprocess.TimeoutExpired):
                    child.wait(timeout=10)
        finally:
            child.kill()  # with its line, what it was asked for is complete
            code = child.wait()
            for pipe in (child.stdin, child.stdout):
                pipe_of(pipe).close()
        if not line:
            why = f"signal {-code}, most likely for lack of memory" if code < 0 else last_line(log)
            raise BitnetError(f"The process that looks at this machine ended early ({why}); try --no-probe.")
    found: dict[str, Any] = json.loads(line)
    if "error" in found:
        raise (UsageError if found["exit_code"] == UsageError.exit_code else BitnetError)(found["error"])
    return found


def _teacher(settings: "Settings", traces: dict[str, Any] | None) -> "TeacherPlan | None":
    """None if the settings name no teacher."""
    from bitnet_core.collecting.requests import prompts_of
    from bitnet_core.planning.teacher import teacher_plan
    from bitnet_core.settings.values import CollectOptions, TeacherOptions
    from bitnet_core.teachers.identity import identify
    from bitnet_core.teachers.prices import price_of

    options = CollectOptions.of(settings)
    identity = identify(TeacherOptions.of(settings))
    price = price_of(identity.provider, identity.model, options.prices_file, address=identity.base_url)
    prompts = (prompt.messages for prompt in prompts_of(options)())
    known = traces["teacher_tokens"] if traces else None
    return teacher_plan(options, prompts, known, price)
