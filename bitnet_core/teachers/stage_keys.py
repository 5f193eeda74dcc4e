"""Which keys a stage needs, and finding them before it is launched. Light."""

from dataclasses import dataclass, field

from bitnet_core.runs import catalog
from bitnet_core.secrets.lookup import Ask, gather
from bitnet_core.settings.resolved import Resolution, Settings
from bitnet_core.teachers.profiles import PROVIDERS


@dataclass(frozen=True)
class StageKeys:
    """What a stage is sent; `warning` says what kept a key it may need from being found."""

    values: dict[str, str] = field(repr=False)
    warning: str = ""


def names_for(stage: str, settings: Settings) -> tuple[str, ...]:
    """The secrets that a stage may need with these settings: the teacher's key, and nothing else."""
    provider = PROVIDERS[settings.text("TEACHER_PROVIDER") or settings.text("PROVIDER")]
    if provider.name == "embedded" or not catalog.stage(stage).uses_teacher:
        return ()
    return ("TEACHER_API_KEY", provider.key_setting)


def for_stage(stage: str, resolution: Resolution, ask: Ask | None = None) -> StageKeys:
    """The keys to send to a stage that is about to be launched."""
    names = names_for(stage, resolution.settings)
    if not names:
        return StageKeys({})
    trouble: list[str] = []
    found = gather(names, resolution, ask=ask, trouble=trouble)
    provider = PROVIDERS[resolution.settings.text("TEACHER_PROVIDER") or resolution.settings.text("PROVIDER")]
    missing = provider.needs_key and not found
    values = {name: secret.value for name, secret in found.items()}
    return StageKeys(values, f"{names[-1]} was not found: {trouble[0]}." if missing and trouble else "")
