"""Which keys a stage needs, and finding them before it is launched. Light."""

from dataclasses import dataclass, field

from bitnet_core.errors import BitnetError
from bitnet_core.files.user_folders import expanded
from bitnet_core.runs import catalog
from bitnet_core.runs.notices import WEBHOOK
from bitnet_core.secrets.find import FoundSecret, find_secrets
from bitnet_core.secrets.places import Ask, VaultLocked
from bitnet_core.settings.resolved import Resolution, Settings
from bitnet_core.settings.storage import StorageOptions
from bitnet_core.settings.values import InitOptions, NotifyOptions, OnlineOptions, TeacherOptions
from bitnet_core.teachers.profiles import profile


@dataclass(frozen=True)
class StageKeys:
    """The keys that a stage is sent; `warning` says why one that it or its copy needs could not be found."""

    values: dict[str, str] = field(repr=False)
    warning: str = ""


def names_for(stage: str, options: TeacherOptions) -> tuple[str, ...]:
    """The names of the secrets that may hold the teacher's key; none for a stage that does not ask the teacher."""
    return profile(options.chosen).key_settings(own=True) if catalog.stage(stage).uses_teacher else ()


def _hub_names(stage: str, settings: Settings) -> tuple[str, ...]:
    """HF_TOKEN where a training loads weights that may be on the hub: the student's first, or the teacher's."""
    if stage not in ("train", catalog.PIPELINE.name):
        return ()
    init, teacher = InitOptions.of(settings).source, profile(TeacherOptions.of(settings).chosen)
    named = init not in ("", "random", "teacher") and not expanded(init).exists()
    of_teacher = teacher.wire == "transformers" and (init == "teacher" or OnlineOptions.of(settings).online)
    return ("HF_TOKEN",) if named or of_teacher else ()


def for_stage(
    stage: str, resolution: Resolution, ask: Ask | None = None, *, vault_can_be_opened: bool = False
) -> StageKeys:
    """The keys for a stage that is about to be launched; `ask` asks for the vault's passphrase.

    VaultLocked where the stage itself needs a key of a locked vault. With `vault_can_be_opened`, for who opens it and
    calls again, also where only its copy or its webhook does; else that is the warning.
    """
    options, storage = TeacherOptions.of(resolution.settings), StorageOptions.of(resolution.settings)
    names = names_for(stage, options)
    hub = tuple(name for name in _hub_names(stage, resolution.settings) if name not in names)
    is_upload = stage == catalog.UPLOAD.name
    copied = storage.key_names if storage.has_target and (is_upload or storage.sync != "off") else ()
    # Only if the settings speak of a webhook are keyring and vault asked for its address.
    told = (WEBHOOK,) if NotifyOptions.of(resolution.settings).form else ()
    written = {name: value for name, value in resolution.secrets.items() if name == WEBHOOK and not told}
    needed = (*names, *hub)
    if not needed and not copied and not told:
        return StageKeys(written)
    trouble: list[str] = []
    locked = ""
    try:
        found = find_secrets((*needed, *copied, *told), resolution, ask=ask, trouble=trouble)
    except BitnetError as error:  # a vault that stays locked: what the work itself does not need must not prevent it
        if is_upload or not (copied or told) or (vault_can_be_opened and isinstance(error, VaultLocked)):
            raise
        found = find_secrets(needed, resolution, ask=ask, trouble=trouble) if needed else dict[str, FoundSecret]()
        locked = f"The copy can't be brought up to date: {error} With STORAGE_SYNC=off no key is looked for."
        if not copied:
            locked = (
                f"The webhook can't be notified: {error} With NOTIFY_WEBHOOK_FORM empty no address is looked for."
            )
    values = written | {name: secret.value for name, secret in found.items()}
    if not names or set(names) & set(values) or not trouble or not profile(options.chosen).needs_key:
        return StageKeys(values, locked)
    return StageKeys(values, f"{names[-1]} was not found: {trouble[0]}. {locked}".rstrip())
