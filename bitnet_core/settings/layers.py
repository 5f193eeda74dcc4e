"""The layers that a value may come from, and what a name is worth in them once its references are expanded."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from bitnet_core.settings.parse import Value, as_path, parse
from bitnet_core.settings.references import as_reference, expand
from bitnet_core.settings.registry import REGISTRY, SECRET_NAMES


@dataclass(frozen=True)
class Layer:
    """One source of values. Relative paths in it are relative to `base`; `file` is the `.env` it was read from."""

    values: Mapping[str, str]
    origin: Callable[[str], str]
    base: Path
    file: Path | None = None


class Layers:
    """The layers, strongest first. Below them are the registry's defaults; `environ` has names of other programs."""

    def __init__(self, layers: list[Layer], environ: Mapping[str, str]) -> None:
        self._layers = layers
        self._environ = environ

    def origin(self, name: str) -> str:
        """Where the value of a name comes from, in words; `default` if no layer has it."""
        layer = self._layer_of(name)
        return layer.origin(name) if layer else "default"

    def written(self, name: str) -> str:
        """The text as it was written, before references are expanded."""
        layer = self._layer_of(name)
        return layer.values[name] if layer else (REGISTRY[name].default if name in REGISTRY else "")

    def value(self, name: str) -> Value:
        """A setting's value, None where it is empty; ValueError with the reason if it is not allowed."""
        text = self._expanded(name, ())
        return None if text == "" else parse(REGISTRY[name], text, self._base_of(name))

    def default(self, name: str) -> Value:
        """The value that a setting would have if no layer had it."""
        return Layers([Layer({}, str, self._layers[0].base)], {}).value(name)

    def secret(self, name: str) -> str:
        """A secret is taken literally, as it may contain `${`, unless all of it is one reference."""
        text = self.written(name)
        reference = as_reference(text)
        if reference is None:
            return text
        return self._looked_up(reference.name, (name,)) or reference.fallback or ""

    def all_secrets(self) -> set[str]:
        """Every secret that is written in a layer, including those that a stronger layer overrides."""
        written = [text for layer in self._layers for name, text in layer.values.items() if name in SECRET_NAMES]
        return {text for text in written if as_reference(text) is None}

    def _layer_of(self, name: str) -> Layer | None:
        return next((layer for layer in self._layers if layer.values.get(name)), None)

    def _base_of(self, name: str) -> Path:
        layer = self._layer_of(name)
        # A path that a default refers to is absolute already.
        return layer.base if layer else self._layers[0].base

    def _expanded(self, name: str, seen: tuple[str, ...]) -> str:
        if name in seen:
            raise ValueError(f"{' → '.join([*seen, name])} refer to each other in a circle")
        return expand(self.written(name), lambda other: self._looked_up(other, (*seen, name)))

    def _looked_up(self, name: str, seen: tuple[str, ...]) -> str | None:
        """What a reference to `name` gives; `seen` are the names whose references led to it."""
        if name in SECRET_NAMES and seen[0] not in SECRET_NAMES:
            raise ValueError(f"it uses {name}, a secret, and settings are written into run records")
        if name in REGISTRY and REGISTRY[name].kind == "path":
            text = self._expanded(name, seen)
            return str(as_path(text, self._base_of(name))) if text else None
        if self._layer_of(name) or name in REGISTRY:
            return self._expanded(name, seen)
        return self._environ.get(name)
