"""What other settings would do to the stages of an experiment, before they are saved. It changes nothing."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from bitnet_core.runs.catalog import STAGES, STARTS_AGAIN
from bitnet_core.runs.experiment import Experiment
from bitnet_core.runs.history import History
from bitnet_core.runs.record import ACTIVE
from bitnet_core.settings.resolved import Settings


@dataclass(frozen=True)
class Effects:
    """Stages by name, in their order.

    The settings decide the result of `concerned`. `outdated` have a result now that would no longer count, `current`
    one that would count again. `running` go on with the settings that they started with. With `starts_again`, the
    next training begins at its first step, and its checkpoints are kept aside.
    """

    concerned: tuple[str, ...] = ()
    outdated: tuple[str, ...] = ()
    current: tuple[str, ...] = ()
    running: tuple[str, ...] = ()
    starts_again: bool = False


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

    concerned = those(lambda name: history.fingerprint(name) != later.fingerprint(name))
    return Effects(
        concerned,
        those(lambda name: before[name] == "done" and after[name] != "done"),
        those(lambda name: before[name] != "done" and after[name] == "done"),
        tuple(name for name in concerned if before[name] in ACTIVE),
        history.is_complete("train") and any(_differs(name, history, settings) for name in STARTS_AGAIN),
    )


def _differs(name: str, history: History, settings: Settings) -> bool:
    return history.experiment.settings.values.get(name) != settings.values.get(name)
