"""Resolving the settings in a process that shows or writes something: every secret it reads is remembered."""

from collections.abc import Mapping
from pathlib import Path

from bitnet_core.secrets import known
from bitnet_core.settings.resolve import resolve
from bitnet_core.settings.resolved import Resolution


def resolve_and_remember(
    overrides: Mapping[str, str] | None = None, *, root: Path | None = None, env_file: Path | None = None
) -> Resolution:
    """As `resolve`; from then on the redactor masks each secret that any layer holds."""
    resolution = resolve(overrides, root=root, env_file=env_file)
    known.remember(resolution.secret_values)
    return resolution
