"""Finds the value and origin of every setting.

Strongest first: command line, environment, the experiment's `.env`, `.env` in the working folder, default.

`resolve` reads every layer once, reports all problems together and never shows a secret's value. Its result is
immutable. A stage gets it through its run record and reads neither files nor the environment for it.
"""

import difflib
import os
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal

from bitnet_core.errors import UsageError
from bitnet_core.settings.dotenv import DotenvFile, read_dotenv
from bitnet_core.settings.layers import Layer, Layers
from bitnet_core.settings.parse import Value, as_path
from bitnet_core.settings.references import names_in
from bitnet_core.settings.registry import REGISTRY, SECRET_NAMES
from bitnet_core.settings.resolved import Problem, Resolution, Settings
from bitnet_core.settings.values import settings_in_use
from bitnet_core.text import escaped

_KEYS_IN_ADDRESS = re.compile(r"(?<=://).*@|\?.*", re.DOTALL)
"""The parts of an address that may hold a key: everything before its last @, and its query."""


def resolve(
    overrides: Mapping[str, str] | None = None,
    *,
    root: Path | None = None,
    env_file: Path | None = None,
    environ: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    read_files: bool = True,
) -> Resolution:
    """Resolve every setting. `env_file` is read instead of `./.env`; `root` is `DRIVE_ROOT` from the command line.

    UsageError when `env_file` does not exist or a `.env` can't be read; everything else becomes a `Problem`.
    """
    environ = os.environ if environ is None else environ
    cwd = (cwd or Path.cwd()).absolute()
    given = dict(overrides or {})
    problems = _override_problems(given)
    if root is not None:
        given["DRIVE_ROOT"] = str(root)
    layers = [
        Layer(given, lambda _: "command line", cwd),
        Layer({n: v for n, v in environ.items() if n in REGISTRY and v}, lambda _: "environment", cwd),
    ]
    if read_files:
        layers += _file_layers(layers, environ, env_file, cwd, problems)
    found = Layers(layers, environ)
    values = {name: _value(found, name, problems) for name in REGISTRY if name not in SECRET_NAMES}
    secrets = {name: text for name in sorted(SECRET_NAMES) if (text := _secret(found, name, problems))}
    problems += _without_effect(found, values)
    origins = {name: origin for name in REGISTRY if (origin := found.origin(name)) != "default"}
    return Resolution(
        settings=Settings(values, {name: origin for name, origin in origins.items() if name in values}),
        secrets=secrets,
        secret_origins={name: origins[name] for name in secrets},
        problems=tuple(problems),
        env_files=tuple(layer.file for layer in layers if layer.file),
        secret_values=frozenset(secrets.values()) | found.all_secrets(),
    )


def from_values(values: Mapping[str, str], cwd: Path | None = None) -> Settings:
    """The defaults with `values` in their place; reads neither files nor the environment."""
    return resolve(values, environ={}, cwd=cwd or Path.cwd(), read_files=False).checked()


# -- reading the layers ----------------------------------------------------------------------------------


def _file_layers(
    above: list[Layer], environ: Mapping[str, str], env_file: Path | None, cwd: Path, problems: list[Problem]
) -> list[Layer]:
    """The experiment's `.env`, then the one of the working folder, as far as they exist."""
    if env_file is not None and not env_file.is_file():
        raise UsageError(f"{env_file} (--env) does not exist; give the path of a .env file.")
    file = (env_file or cwd / ".env").absolute()
    layers = [_file_layer(file, cwd, problems)] if file.is_file() else []
    try:
        root = Layers([*above, *layers], environ).value("DRIVE_ROOT")
    except ValueError:  # reported when all values are resolved
        root = None
    if isinstance(root, Path) and (root / ".env").is_file() and root / ".env" != file:
        layers.insert(0, _experiment_layer(_file_layer(root / ".env", cwd, problems), root, problems))
    return layers


def _file_layer(path: Path, cwd: Path, problems: list[Problem]) -> Layer:
    shown = path.relative_to(cwd) if path.is_relative_to(cwd) else path
    file = read_dotenv(path)
    problems += _lint(file, str(shown))
    return Layer(file.values, lambda name: f"{shown} line {file.lines[name]}", path.parent, path)


def _experiment_layer(layer: Layer, root: Path, problems: list[Problem]) -> Layer:
    """The experiment's own file without DRIVE_ROOT: it can't say that the experiment is somewhere else."""
    written = layer.values.get("DRIVE_ROOT")
    if written is not None and not names_in(written) and as_path(written, layer.base) != root:
        problems.append(
            Problem("warning", f"DRIVE_ROOT ({layer.origin('DRIVE_ROOT')}) is ignored: the experiment is {root}.")
        )
    return replace(layer, values={name: text for name, text in layer.values.items() if name != "DRIVE_ROOT"})


# -- problems --------------------------------------------------------------------------------------------


def _override_problems(given: Mapping[str, str]) -> list[Problem]:
    unknown = [_unknown(name, "the command line", "error") for name in given if name not in REGISTRY]
    return unknown + [
        Problem(
            "error",
            f"{name} is a secret and others can read a command line; keep it with `bitnet keys set {name}`.",
        )
        for name in given
        if name in SECRET_NAMES
    ]


def _lint(file: DotenvFile, shown: str) -> list[Problem]:
    found = [
        Problem("error", f"{shown} line {line} can't be read; write it as NAME=value.") for line in file.unreadable
    ]
    for name, lines in file.duplicates.items():
        places = ", ".join(map(str, lines))
        found.append(
            Problem("warning", f"{name} is set {len(lines)} times in {shown} (lines {places}); the last one counts.")
        )
    used = frozenset[str]().union(*map(names_in, file.values.values()))
    for name, line in file.lines.items():
        if name not in REGISTRY and name not in used:
            found.append(_unknown(name, f"{shown} line {line}", "warning"))
    return found


def _unknown(name: str, place: str, severity: Literal["error", "warning"]) -> Problem:
    close = difflib.get_close_matches(name, REGISTRY, n=1, cutoff=0.75)
    hint = f"did you mean {close[0]}?" if close else "`bitnet config` lists the names."
    return Problem(severity, f"{name} ({place}) is not a setting; {hint}")


def _value(found: Layers, name: str, problems: list[Problem]) -> Value:
    """The value, or None and a problem when it is not allowed."""
    try:
        return found.value(name)
    except ValueError as error:
        written, origin = found.written(name), found.origin(name)
        # A default that refers to a bad name is reported under that name.
        if origin != "default" or not names_in(written):
            problems.append(
                Problem("error", f"{name}={_without_keys(escaped(written))} ({origin}) is not allowed: {error}.")
            )
        return None


def _secret(found: Layers, name: str, problems: list[Problem]) -> str:
    """The secret, or an empty text and a problem (which quotes no value) when its reference leads nowhere."""
    try:
        return found.secret(name)
    except ValueError as error:
        problems.append(Problem("error", f"{name} ({found.origin(name)}) is not allowed: {error}."))
        return ""


def _without_keys(text: str) -> str:
    if "://" not in text:
        return text
    return _KEYS_IN_ADDRESS.sub(lambda found: "•••@" if found[0].endswith("@") else "?•••", text)


def _without_effect(found: Layers, values: Mapping[str, Value]) -> list[Problem]:
    """A warning for each setting that is set to something other than its default and that nothing reads yet."""
    problems = []
    for name in REGISTRY:
        origin = found.origin(name)
        if origin == "default" or name in settings_in_use():
            continue
        if name in SECRET_NAMES:
            # Many programs read AWS_SECRET_ACCESS_KEY and the like from the environment; in a .env it is for us.
            given = "" if origin == "environment" else name
        else:
            changed = values[name] is not None and values[name] != found.default(name)
            given = f"{name}={escaped(found.written(name))}" if changed else ""
        if given:
            problems.append(Problem("warning", f"{given} ({origin}) has no effect yet.", to_fix=False))
    return problems
