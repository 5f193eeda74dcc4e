"""`bitnet config` and `bitnet init`: the settings with their origins, and an experiment's folders."""

import argparse
import sys
from typing import Any

from bitnet_core.cli.command import Commands, answer, answer_table, in_use, overrides, resolution, warn


def add_to(commands: Commands) -> None:
    config = commands.add("config", "show every setting with its value and where it came from", _config)
    config.add_argument("--check", action="store_true", help="only report problems; exit 2 if one needs fixing")
    config.add_argument("--example", action="store_true", help="print the text of .env.example")
    commands.add("init", "create the experiment's folders", _init)


def _config(arguments: argparse.Namespace) -> int:
    if arguments.example:
        from bitnet_core.settings.docs import env_example

        sys.stdout.write(env_example())
        return 0
    return _check(arguments) if arguments.check else _list(arguments)


def _check(arguments: argparse.Namespace) -> int:
    from bitnet_core.secrets.known import redactor, resolve_and_remember
    from bitnet_core.settings.contradictions import contradiction
    from bitnet_core.settings.resolved import Problem

    found = resolve_and_remember(overrides(arguments), root=arguments.root, env_file=arguments.env)
    problems = [*found.problems]
    if not any(one.severity == "error" for one in problems) and (wrong := contradiction(found.settings)):
        problems.append(Problem("error", str(wrong)))
    for problem in problems:
        warn(problem.message, problem.severity)
    masked = redactor().tree([{"severity": one.severity, "message": one.message} for one in problems])
    answer(arguments, {"problems": masked}, "" if problems else "settings are fine")
    return 2 if any(problem.to_fix for problem in problems) else 0


def _list(arguments: argparse.Namespace) -> int:
    """Every setting; of a secret only whether it is set."""
    from bitnet_core.settings.kinds import as_written
    from bitnet_core.settings.registry import REGISTRY

    resolved = resolution(arguments, repeat=True)
    values, rows, records = resolved.settings.to_record(), [], []
    for setting in REGISTRY.values():
        name = setting.name
        if setting.secret:
            value: Any = "set" if name in resolved.secrets else None
            origin = resolved.secret_origins.get(name, "")
        else:
            value, origin = values[name], resolved.settings.origin(name)
        rows.append([name, as_written(value), origin])
        fields = {"name": name, "value": value, "origin": origin, "section": setting.section}
        records.append(fields | {"secret": setting.secret})
    answer_table(arguments, "settings", ["name", "value", "from"], rows, records)
    return 0


def _init(arguments: argparse.Namespace) -> int:
    from bitnet_core.runs.experiment import Experiment

    experiment = Experiment.from_settings(resolution(arguments).settings)
    in_use.require()  # else it would be made again
    experiment.ensure()
    ready = f"{experiment.root} is ready; set its teacher in {experiment.root / '.env'}, then run `bitnet pipeline`."
    answer(arguments, {"root": str(experiment.root)}, ready)
    return 0
