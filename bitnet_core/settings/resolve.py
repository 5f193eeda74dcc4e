"""Settings with their origin: command line → environment → the experiment's `.env` → `./.env` → default.

`resolve` reads every layer once, reports all problems at once and never shows a secret's value. The result is
immutable; a stage gets it through its run record and reads no file or environment itself.
"""

import difflib
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bitnet_core.errors import UsageError
from bitnet_core.settings.dotenv import DotenvFile, read_dotenv
from bitnet_core.settings.parse import Value, as_path, parse
from bitnet_core.settings.registry import REGISTRY, SECRET_NAMES, Setting
from bitnet_core.settings.resolved import Problem, Resolution, Settings
from bitnet_core.settings.values import settings_in_use
from bitnet_core.text import escaped

_REFERENCE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")
_ADDRESS_KEYS = re.compile(r"(?<=://).*@|\?.*", re.DOTALL)
"""What may hold a key in an address: all before its last @, and its query."""


@dataclass(frozen=True)
class _Layer:
    """One place that values come from. Relative paths in it are relative to `base`."""

    values: Mapping[str, str]
    origin: Callable[[str], str]
    base: Path


def resolve(
    overrides: Mapping[str, str] | None = None,
    *,
    root: Path | None = None,
    env_file: Path | None = None,
    environ: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    read_files: bool = True,
) -> Resolution:
    """Resolve every setting. `env_file` stands in for `./.env`; `root` is the command line's `DRIVE_ROOT`."""
    environ = os.environ if environ is None else environ
    cwd = (cwd or Path.cwd()).absolute()
    overrides = dict(overrides or {})
    problems = [_unknown(name, "the command line", "error") for name in overrides if name not in REGISTRY]
    problems += [
        Problem(
            "error",
            f"{name} is a secret and others can read a command line; keep it with `bitnet keys set {name}`.",
        )
        for name in overrides
        if name in SECRET_NAMES
    ]
    if root is not None:
        overrides["DRIVE_ROOT"] = str(root)
    layers = [
        _Layer(overrides, lambda _: "command line", cwd),
        _Layer({n: v for n, v in environ.items() if n in REGISTRY and v}, lambda _: "environment", cwd),
    ]
    env_files: list[Path] = []
    if read_files:
        if env_file is not None and not env_file.is_file():
            raise UsageError(f"{env_file} (--env) does not exist; give the path of a .env file.")
        folder_file = (env_file or cwd / ".env").absolute()
        folder_layer = _file_layer(folder_file, cwd, problems) if folder_file.is_file() else None
        below = [folder_layer] if folder_layer else []
        place = _Expander([*layers, *below], environ, []).path("DRIVE_ROOT")
        if place is not None and (place / ".env").is_file() and place / ".env" != folder_file:
            layers.append(_own_layer(_file_layer(place / ".env", cwd, problems), place, problems))
            env_files.append(place / ".env")
        layers += below
        env_files += [folder_file] * len(below)
    expander = _Expander(layers, environ, problems)
    values = {name: expander.value(setting) for name, setting in REGISTRY.items() if not setting.secret}
    origins = {name: origin for name in REGISTRY if (origin := expander.origin(name)) != "default"}
    secrets = {name: text for name in SECRET_NAMES if (text := expander.secret(name))}
    problems += _without_effect(expander, values)
    return Resolution(
        Settings(values, {n: o for n, o in origins.items() if n not in SECRET_NAMES}),
        secrets,
        {name: origins[name] for name in secrets},
        tuple(problems),
        tuple(env_files),
        frozenset(secrets.values()) | _written_secrets(layers),
    )


def from_values(values: Mapping[str, str], cwd: Path | None = None) -> Settings:
    """Defaults with some values put over them; reads neither files nor the environment."""
    return resolve(values, environ={}, cwd=cwd or Path.cwd(), read_files=False).checked()


def _without_effect(expander: "_Expander", values: Mapping[str, Value]) -> list[Problem]:
    """A warning for each setting that differs from its default and that nothing reads yet."""
    found = []
    for setting in REGISTRY.values():
        name, origin = setting.name, expander.origin(setting.name)
        if origin == "default" or name in settings_in_use():
            continue
        if setting.secret:
            # In the environment it is there for other programs.
            given = "" if origin == "environment" else name
        elif values[name] is None or values[name] == expander.default(setting):
            given = ""
        else:
            given = f"{name}={escaped(expander.written(name))}"
        if given:
            found.append(Problem("warning", f"{given} ({origin}) has no effect yet.", to_fix=False))
    return found


def _written_secrets(layers: list[_Layer]) -> set[str]:
    written = [value for layer in layers for name, value in layer.values.items() if name in SECRET_NAMES]
    return {value for value in written if not _REFERENCE.fullmatch(value)}


def _file_layer(path: Path, cwd: Path, problems: list[Problem]) -> _Layer:
    shown = path.relative_to(cwd) if path.is_relative_to(cwd) else path
    file = read_dotenv(path)
    problems += _lint(file, str(shown))
    return _Layer(file.values, lambda name: f"{shown} line {file.lines[name]}", path.parent)


def _own_layer(layer: _Layer, place: Path, problems: list[Problem]) -> _Layer:
    """The experiment's own file may not move the experiment: where it lies is where it is."""
    written = layer.values.get("DRIVE_ROOT")
    if written is not None and "${" not in written and as_path(written, layer.base) != place:
        problems.append(
            Problem("warning", f"DRIVE_ROOT ({layer.origin('DRIVE_ROOT')}) is ignored: the experiment is {place}.")
        )
    return _Layer({n: v for n, v in layer.values.items() if n != "DRIVE_ROOT"}, layer.origin, layer.base)


def _lint(file: DotenvFile, shown: str) -> list[Problem]:
    found = [
        Problem("error", f"{shown} line {line} can't be read; write it as NAME=value.") for line in file.unreadable
    ]
    for name, lines in file.duplicates.items():
        places = ", ".join(str(line) for line in lines)
        found.append(
            Problem("warning", f"{name} stands {len(lines)} times in {shown} (lines {places}); the last counts.")
        )
    used = {match[1] for value in file.values.values() for match in _REFERENCE.finditer(value)}
    for name, line in file.lines.items():
        if name not in REGISTRY and name not in used:
            found.append(_unknown(name, f"{shown} line {line}", "warning"))
    return found


def _unknown(name: str, place: str, severity: Literal["error", "warning"]) -> Problem:
    close = difflib.get_close_matches(name, REGISTRY, n=1, cutoff=0.75)
    hint = f"did you mean {close[0]}?" if close else "`bitnet config` lists the names."
    return Problem(severity, f"{name} ({place}) is no setting; {hint}")


class _Expander:
    """Finds a name's text in the strongest layer, expands `${…}` in it, and turns it into a value."""

    def __init__(self, layers: list[_Layer], environ: Mapping[str, str], problems: list[Problem]) -> None:
        self._layers = layers
        self._environ = environ
        self._problems = problems

    def _layer(self, name: str) -> _Layer | None:
        return next((layer for layer in self._layers if layer.values.get(name)), None)

    def origin(self, name: str) -> str:
        layer = self._layer(name)
        return layer.origin(name) if layer else "default"

    def written(self, name: str) -> str:
        """The text of the strongest layer, or of the registry, before `${…}` is expanded."""
        layer = self._layer(name)
        return layer.values[name] if layer else (REGISTRY[name].default if name in REGISTRY else "")

    def default(self, setting: Setting) -> Value:
        return parse(setting, setting.default, self._layers[0].base) if setting.default else None

    def secret(self, name: str) -> str:
        """A secret is taken as it stands (it may hold `${`), unless it is one reference to another name."""
        layer = self._layer(name)
        text = layer.values[name] if layer else ""
        whole = _REFERENCE.fullmatch(text)
        return self._lookup(whole[1], (name,)) or whole[2] or "" if whole else text

    def path(self, name: str) -> Path | None:
        value = self.value(REGISTRY[name])
        return value if isinstance(value, Path) else None

    def value(self, setting: Setting) -> Value:
        try:
            text = self._text(setting.name, ())
            return None if text == "" else parse(setting, text, self._base(setting.name))
        except ValueError as error:
            layer = self._layer(setting.name)
            if layer is None and "${" in setting.default:
                return None  # the name that the default refers to has the problem, and says so
            shown = escaped(self.written(setting.name))
            if "://" in shown:
                shown = _ADDRESS_KEYS.sub(lambda found: "•••@" if found[0].endswith("@") else "?•••", shown)
            self._problems.append(
                Problem("error", f"{setting.name}={shown} ({self.origin(setting.name)}) is not allowed: {error}.")
            )
            return None

    def _base(self, name: str) -> Path:
        layer = self._layer(name)
        # A value that is a reference was made absolute where the other name was resolved.
        return layer.base if layer else self._layers[0].base

    def _text(self, name: str, seen: tuple[str, ...]) -> str:
        if name in seen:
            raise ValueError(f"{' → '.join([*seen, name])} refer to each other in a circle")

        def expand(match: re.Match[str]) -> str:
            found = self._lookup(match[1], (*seen, name))
            if found is None and match[2] is None:
                raise ValueError(f"it uses ${{{match[1]}}}, which is not set")
            return found or match[2] or ""

        return _REFERENCE.sub(expand, self.written(name))

    def _lookup(self, name: str, seen: tuple[str, ...]) -> str | None:
        if name in SECRET_NAMES and seen[0] not in SECRET_NAMES:
            raise ValueError(f"it uses {name}, a secret, and settings are written into run records")
        if name in REGISTRY and REGISTRY[name].kind == "path":
            text = self._text(name, seen)
            return str(as_path(text, self._base(name))) if text else None
        if self._layer(name) or name in REGISTRY:
            return self._text(name, seen)
        return self._environ.get(name)
