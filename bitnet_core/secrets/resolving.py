"""Resolving the settings in a process that shows or writes something: every secret met is remembered and masked."""

from collections.abc import Mapping
from pathlib import Path

from bitnet_core.secrets import known
from bitnet_core.settings import resolve as settings
from bitnet_core.settings.resolved import Resolution


def resolve(
    overrides: Mapping[str, str] | None = None, *, root: Path | None = None, env_file: Path | None = None
) -> Resolution:
    """As `settings.resolve.resolve`; from now on the redactor masks each secret that any layer holds."""
    resolution = settings.resolve(overrides, root=root, env_file=env_file)
    known.remember(resolution.secret_values)
    return resolution
