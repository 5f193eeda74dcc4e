"""Finds the value and origin of every setting.

Strongest first: command line, environment, the experiment's `.env`, `.env` in the working folder, default.

`resolve` reads every layer once, reports all problems together and never shows a secret's value. Its result is
immutable. A stage gets it through its run record and reads neither files nor the environment for it.
"""

import difflib
import os
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Literal, NamedTuple

from bitnet_core.errors import UsageError, explained
from bitnet_core.files.inputs import read_input
from bitnet_core.settings import rates
from bitnet_core.settings.dotenv import DotenvFile, parse
from bitnet_core.settings.kinds import Value, as_path
from bitnet_core.settings.places import PlaceOptions
from bitnet_core.settings.references import MAX_DEPTH, as_reference, expand, names_in
from bitnet_core.settings.registry import REGISTRY, SECRET_NAMES
from bitnet_core.settings.resolved import Problem, Resolution, Settings
from bitnet_core.settings.spending import LIMITS, limit_inside, may_mean_limit, meant_limit
from bitnet_core.text import escaped

_MOST_NAMED = 100
"""The most names and lines of one file that are reported one by one."""
_LONGEST_SHOWN = 300


def resolve(
    overrides: Mapping[str, str] | None = None,
    *,
    root: Path | None = None,
    env_file: Path | None = None,
    environ: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    read_files: bool = True,
    instead: Mapping[Path, str] | None = None,
) -> Resolution:
    """Resolve every setting. `env_file` is read instead of `./.env`; `root` is `DRIVE_ROOT` from the command line.

    `instead` are texts to take in place of what is in these files: what would be if they were saved.
    UsageError when `env_file` does not exist or a `.env` can't be read; everything else becomes a `Problem`.
    """
    environ = os.environ if environ is None else environ
    cwd = cwd.absolute() if cwd else working_folder()
    given = dict(overrides or {})
    problems = list(_override_problems(given))
    if root is not None:
        given["DRIVE_ROOT"] = str(root)
    layers = [
        _Layer(given, lambda _: "command line", cwd, literal=frozenset(["DRIVE_ROOT"] if root else [])),
        _Layer({n: v for n, v in environ.items() if n in REGISTRY and v}, lambda _: "environment", cwd),
    ]
    problems += [_unknown(name, "the environment", "error") for name in environ if _is_misspelt_limit(name)]
    if read_files:
        layers += _file_layers(layers, environ, env_file, cwd, problems, instead or {})
    found = _Layers(layers, environ, cwd)
    values = {name: _value(found, name, problems) for name in REGISTRY if name not in SECRET_NAMES}
    secrets = {name: str(text) for name in sorted(SECRET_NAMES) if (text := _value(found, name, problems))}
    problems += _without_effect(found, values)
    told = rates.doubted(values, lambda name: f"{name}={found.written(name)} ({found.origin(name)})")
    problems += [Problem("warning", one, to_fix=False) for one in told]
    return Resolution(
        settings=Settings(values, {name: found.origin(name) for name in found.given if name in values}),
        secrets=secrets,
        secret_origins={name: found.origin(name) for name in secrets},
        problems=tuple(problems),
        env_files=tuple(layer.file for layer in layers if layer.file),
        secret_values=frozenset(secrets.values()) | found.all_secrets(),
    )


def working_folder() -> Path:
    """The folder that relative paths start from. UsageError if it was deleted."""
    try:
        return Path.cwd()
    except OSError as error:
        why = explained(error, "change to another one (cd)")
        raise UsageError(f"The working folder is gone or can't be entered {why}.") from error


def from_values(values: Mapping[str, str]) -> Settings:
    """The defaults with `values` in their place; reads neither files nor the environment."""
    return resolve(values, environ={}, read_files=False).checked()


# -- layers ----------------------------------------------------------------------------------------------


class _Layer(NamedTuple):
    """One source of values. Relative paths in it are relative to `base`; `file` is the `.env` it was read from.

    `literal` are names whose texts have no references: `${HOME}` in them is the name of a folder.
    """

    values: Mapping[str, str]
    origin: Callable[[str], str]
    base: Path
    file: Path | None = None
    literal: frozenset[str] = frozenset()


class _Layers:
    """Layers, strongest first, above the registry's defaults. References may also name variables of `environ`."""

    def __init__(self, layers: list[_Layer], environ: Mapping[str, str], cwd: Path) -> None:
        self._defaults = _Layer(_defaults(), lambda _: "default", cwd)
        self._layers = layers
        self._given = {name: layer for layer in reversed(layers) for name, text in layer.values.items() if text}
        """The strongest layer that has a name: the app resolves hundreds of names for each of many experiments."""
        self._environ = environ
        self._known: dict[tuple[str, bool], _Expanded] = {}

    @property
    def given(self) -> list[str]:
        """The settings that a layer has, in the registry's order."""
        return [name for name in REGISTRY if name in self._given]

    def origin(self, name: str) -> str:
        """Where the value of a name comes from, in words; `default` if no layer has it."""
        return self._layer_of(name).origin(name)

    def written(self, name: str) -> str:
        """The text as it was written, before references are expanded."""
        return self._layer_of(name).values.get(name, "")

    def value(self, name: str) -> Value:
        """A setting's value, None if it is empty; ValueError with the reason if it is not allowed."""
        if name in SECRET_NAMES:
            return self._secret(name)
        if name not in self._given and name in _fixed_defaults():
            return _fixed_defaults()[name]
        text = self._expanded(name, ()).text
        if not text and name in LIMITS and self.written(name):
            raise ValueError("its references stand for nothing, which would be no limit at all")
        return REGISTRY[name].parse(text, self._layer_of(name).base) if text else None

    def default(self, name: str) -> Value:
        """The value that a setting would have if no layer had it."""
        return _Layers([], {}, self._defaults.base).value(name)

    def all_secrets(self) -> set[str]:
        """Every secret that is written in a layer, including those that a stronger layer overrides."""
        written = [text for layer in self._layers for name, text in layer.values.items() if name in SECRET_NAMES]
        return {text for text in written if as_reference(text) is None}

    def _layer_of(self, name: str) -> _Layer:
        return self._given.get(name, self._defaults)

    def _secret(self, name: str) -> str:
        """A secret is taken literally, as it may contain `${`, unless all of it is one reference."""
        text = self.written(name)
        reference = as_reference(text)
        if reference is None:
            return text
        return self._looked_up(reference.name, (name,)).text or reference.fallback or ""

    def _expanded(self, name: str, seen: tuple[str, ...]) -> "_Expanded":
        """The text of a name. It is kept, so that many references to one name cost no more than one."""
        if name in seen:
            raise ValueError(f"{' → '.join([*seen, name])} refer to each other in a circle")
        key = (name, bool(seen) and seen[0] in SECRET_NAMES)
        found = self._known.get(key)
        if len(seen) + (found.depth if found else 0) > MAX_DEPTH:
            raise ValueError(f"its references lead through more than {MAX_DEPTH} names")
        if found is None:
            depth = 0

            def value_of(other: str) -> str | None:
                nonlocal depth
                inner = self._looked_up(other, (*seen, name))
                depth = max(depth, inner.depth + 1)
                return inner.text

            text = self.written(name)
            if name not in self._layer_of(name).literal:
                text = expand(text, value_of)
            found = self._known[key] = _Expanded(text, depth)
        return found

    def _looked_up(self, name: str, seen: tuple[str, ...]) -> "_Expanded":
        """What a reference to `name` stands for; `seen` are the names whose references led to it."""
        if name in SECRET_NAMES and seen[0] not in SECRET_NAMES:
            raise ValueError(f"it uses {name}, a secret, and settings are written into run records")
        if name not in REGISTRY and not self.written(name):
            return _Expanded(self._environ.get(name), -1)
        found = self._expanded(name, seen)
        if name in REGISTRY and REGISTRY[name].kind == "path":
            base = self._layer_of(name).base
            return _Expanded(str(as_path(found.text, base)) if found.text else None, found.depth)
        return found


@cache
def _defaults() -> Mapping[str, str]:
    """The text of every default."""
    return {name: setting.default for name, setting in REGISTRY.items()}


@cache
def _fixed_defaults() -> Mapping[str, Value]:
    """The values of the defaults that depend neither on other settings nor on a folder.

    The app resolves the settings of hundreds of experiments, which are left to their defaults for the most part.
    """
    fixed = [one for one in REGISTRY.values() if one.kind != "path" and not names_in(one.default)]
    return {one.name: one.parse(one.default, Path()) if one.default else None for one in fixed}


class _Expanded(NamedTuple):
    """A text without references, None if it is not set, and how many names its references led through.

    A variable of the environment has no references, and counts for nothing.
    """

    text: str | None
    depth: int


def _file_layers(
    above: list[_Layer],
    environ: Mapping[str, str],
    env_file: Path | None,
    cwd: Path,
    problems: list[Problem],
    instead: Mapping[Path, str],
) -> list[_Layer]:
    """The experiment's `.env`, then the one in the working folder; only those that exist."""
    file = (env_file or cwd / ".env").absolute()
    layers = _file_layer(file, cwd, problems, instead)
    if env_file is not None and not layers:
        raise UsageError(f"{env_file} (--env) does not exist; give the path of a .env file.")
    try:
        root = _Layers([*above, *layers], environ, cwd).value("DRIVE_ROOT")
    except ValueError:  # reported when all values are resolved
        return layers
    if isinstance(root, Path) and root / ".env" != file:
        of_experiment = _file_layer(root / ".env", cwd, problems, instead)
        layers = [_experiment_layer(layer, root, problems) for layer in of_experiment] + layers
    return layers


def _file_layer(path: Path, cwd: Path, problems: list[Problem], instead: Mapping[Path, str]) -> list[_Layer]:
    """The values of a file; no layer if there is none."""
    text = instead[path] if path in instead else read_input(path)
    if text is None:
        return []
    shown = path.relative_to(cwd) if path.is_relative_to(cwd) else path
    file = parse(text, path)
    problems += _file_problems(file, str(shown))
    return [_Layer(file.values, lambda name: f"{shown} line {file.lines[name]}", path.parent, path)]


def _experiment_layer(layer: _Layer, root: Path, problems: list[Problem]) -> _Layer:
    """The experiment's own file without DRIVE_ROOT: it can't say that the experiment is somewhere else."""
    written = layer.values.get("DRIVE_ROOT")
    if written is not None and not names_in(written) and as_path(written, layer.base) != root:
        message = f"DRIVE_ROOT ({layer.origin('DRIVE_ROOT')}) is ignored: the experiment is {root}."
        problems.append(Problem("warning", message))
    return layer._replace(values={name: text for name, text in layer.values.items() if name != "DRIVE_ROOT"})


# -- problems --------------------------------------------------------------------------------------------


def _override_problems(given: Mapping[str, str]) -> Iterator[Problem]:
    for name in given:
        if name not in REGISTRY:
            yield _unknown(name, "the command line", "error")
        elif name in SECRET_NAMES:
            advice = f"keep it with `bitnet keys set {name}`."
            yield Problem("error", f"{name} is a secret and others can read a command line; {advice}")


def _file_problems(file: DotenvFile, shown: str) -> Iterator[Problem]:
    for line in file.unreadable[:_MOST_NAMED]:
        yield Problem("error", f"{shown} line {line} can't be read; write it as NAME=value, with its quotes closed.")
    for name, lines in list(file.duplicates.items())[:_MOST_NAMED]:
        times = f"{len(lines)} times in {shown} (lines {_short(', '.join(map(str, lines)))})"
        yield Problem("warning", f"{name} is set {times}; the last one is used.")
    yield from _lost_limits(file, shown)
    used = frozenset[str]().union(*map(names_in, file.values.values()))
    unknown = [name for name in file.lines if name not in REGISTRY and name not in used]
    unknown.sort(key=may_mean_limit, reverse=True)
    for name in unknown[:_MOST_NAMED]:
        yield _unknown(name, f"{shown} line {file.lines[name]}", "warning")
    if (more := len(unknown) - _MOST_NAMED) > 0:
        yield Problem("warning", f"{more:,} more names in {shown} are not settings; is it a .env of this program?")


def _lost_limits(file: DotenvFile, shown: str) -> Iterator[Problem]:
    """An error for each spending limit that is written in the file and would not count."""
    for name in LIMITS:
        if (line := file.emptied.get(name)) is not None:
            where = f"{shown} line {line} and emptied in line {file.lines[name]}"
            yield Problem("error", f"{name} is set in {where}; remove one of these lines, so that it is clear.")
    for name, value in file.values.items():
        limit = limit_inside(value)
        if limit is not None:
            place = f"inside the value of {name} ({shown} line {file.lines[name]})"
            advice = f"give it a line of its own, and close the quotes of {name}."
            yield Problem("error", f"{limit} is set {place}, so it has no effect; {advice}")


def _is_misspelt_limit(name: str) -> bool:
    return name not in REGISTRY and may_mean_limit(name) and meant_limit(name) is not None


def _unknown(name: str, place: str, severity: Literal["error", "warning"]) -> Problem:
    limit = meant_limit(name)
    if limit is not None:
        message = f"{name} ({place}) is not a setting, so it limits no spending; write {limit}, or remove it."
        return Problem("error", message)
    close = difflib.get_close_matches(name, REGISTRY, n=1, cutoff=0.75)
    hint = f"did you mean {close[0]}?" if close else "`bitnet config` lists the names."
    return Problem(severity, f"{name} ({place}) is not a setting; {hint}")


def _value(found: _Layers, name: str, problems: list[Problem]) -> Value:
    """The value, or None and a problem when it is not allowed. The problem quotes no secret."""
    try:
        return found.value(name)
    except ValueError as error:
        written, origin = found.written(name), found.origin(name)
        # A default that refers to a bad name is reported under that name.
        if origin != "default" or not names_in(written):
            shown = name if name in SECRET_NAMES else f"{name}={_short(_without_keys(_on_one_line(written)))}"
            problems.append(Problem("error", f"{shown} ({origin}) is not allowed: {_short(str(error))}."))
        return None


def _on_one_line(written: str) -> str:
    return escaped(written).replace("\r", "\\r").replace("\n", "\\n")


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}…"


def _without_keys(text: str) -> str:
    """An address without the parts that may hold a key: everything before its last @, and its query."""
    if "://" not in text:
        return text
    scheme, sign, rest = text.partition("://")
    _, at, place = rest.rpartition("@")
    before, query, _ = f"{scheme}{sign}{'•••@' if at else ''}{place}".partition("?")
    return f"{before}{query}{'•••' if query else ''}"


def _settings_in_use() -> frozenset[str]:
    from bitnet_core.settings.values import settings_in_use  # the first screen does not wait for these 10 ms

    return settings_in_use()


def _without_effect(found: _Layers, values: Mapping[str, Value]) -> Iterator[Problem]:
    """A warning for each setting that is set to something other than its default and that nothing reads."""
    places = PlaceOptions.setting_names()
    for name in found.given:
        if name in places:
            continue
        origin = found.origin(name)
        why = "has no effect yet" if name not in _settings_in_use() else _of_another_target(name, values)
        if not why:
            continue
        if name in SECRET_NAMES:
            # Many programs read AWS_SECRET_ACCESS_KEY and the like from the environment; in a .env it is for us.
            matters, given = origin != "environment", name
        else:
            matters = values[name] is not None and values[name] != found.default(name)
            given = f"{name}={_short(_on_one_line(found.written(name)))}"
        if matters:
            yield Problem("warning", f"{given} ({origin}) {why}.", to_fix=False)


def _of_another_target(name: str, values: Mapping[str, Value]) -> str:
    """Why a storage setting has no effect: its target is another one, or is reached without it. Empty if it has."""
    if not REGISTRY[name].section.startswith("Storage: ") and name != "STORAGE_LOCAL_DIR":
        return ""
    from bitnet_core.settings.storage import IDLE, SECTIONS

    backend = str(values["STORAGE_BACKEND"])
    if REGISTRY[name].section not in SECTIONS.get(backend, (REGISTRY[name].section,)):
        return f"has no effect while STORAGE_BACKEND is {backend}"
    idle, other, if_set = IDLE.get(backend, ((), "", True))
    if name in idle and bool(values.get(other)) == if_set:
        return f"has no effect while {other} is {'set' if if_set else 'empty'}"
    return ""
