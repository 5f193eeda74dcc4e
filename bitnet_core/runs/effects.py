"""What other settings would do to the stages of an experiment, before they are saved. It changes nothing."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from bitnet_core.errors import UsageError
from bitnet_core.runs.catalog import STAGES
from bitnet_core.runs.experiment import Experiment
from bitnet_core.runs.history import History
from bitnet_core.runs.outlook import Outlook, outlook
from bitnet_core.runs.record import ACTIVE
from bitnet_core.settings.resolved import Settings


@dataclass(frozen=True)
class Effects:
    """Stages by name, in their order.

    The settings decide the result of `concerned`. `outdated` have a result now that would no longer count, `current`
    one that would count again. `running` go on with the settings that they started with. `training` is
    what the next training would do.
    """

    concerned: tuple[str, ...] = ()
    outdated: tuple[str, ...] = ()
    current: tuple[str, ...] = ()
    running: tuple[str, ...] = ()
    training: Outlook = field(default_factory=Outlook)


def effects(history: History, settings: Settings) -> Effects:
    """What changes if the experiment has `settings` instead of its own."""
    experiment = Experiment.from_settings(settings)
    later = (
        replace(history, experiment=experiment)
        if experiment.logs == history.experiment.logs
        else History.read(experiment)
    )
    before = {name: history.status(name).state for name in STAGES}
    after = {name: later.status(name).state for name in STAGES}

    def those(wanted: Callable[[str], bool]) -> tuple[str, ...]:
        return tuple(filter(wanted, STAGES))

    own = history.experiment.settings
    concerned = those(lambda name: history.fingerprint(name) != later.fingerprint(name, own))
    return Effects(
        concerned,
        those(lambda name: before[name] == "done" and after[name] != "done"),
        those(lambda name: before[name] != "done" and after[name] == "done"),
        tuple(name for name in concerned if before[name] in ACTIVE),
        _outlook(later, settings),
    )


def _outlook(later: History, settings: Settings) -> Outlook:
    try:
        return outlook(later, settings)
    except UsageError:  # which is told where the settings are checked
        return Outlook()
