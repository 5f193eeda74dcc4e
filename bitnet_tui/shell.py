"""What the screens may ask of the app. They import this module and never `app.py`, which imports them."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from textual.app import App
from textual.signal import Signal

from bitnet_core.files import real_path
from bitnet_tui import key_names
from bitnet_tui.keymap import Keymap
from bitnet_tui.works import Work

if TYPE_CHECKING:
    from textual.notifications import SeverityLevel

    from bitnet_core.secrets.places import VaultLocked
    from bitnet_tui.services.benchmarks import GetBenchmarks
    from bitnet_tui.services.exporting import Begun
    from bitnet_tui.services.tracing import Scoring

_Place = TypeVar("_Place")


class Shell(App[None]):
    """The app as its screens see it.

    `home` is the workspace, `redraw_seconds` how often a live screen is redrawn, and `stops_sent` when each run was
    asked to stop, by the monotonic clock. `confirmed` has the ids of the runs that somebody stops here: that such a
    run was stopped is no news, and after its end it is forgotten. `played` has the session of each experiment's
    playground; `exports` the export that was begun last here, and `scorings` the scoring that runs, or whose end was
    not seen.
    """

    home: Path
    redraw_seconds: float
    stops_sent: dict[str, float]
    confirmed: set[str]
    keymap = Keymap()
    """The user's own keys."""
    keymap_signal: Signal[Keymap]
    """Tells that they were read."""
    played: dict[Path, Any]
    works: list[Work]
    """What would end with the app, from its start to its end. Threads add to it, too."""
    exports: "dict[Path, Begun]"
    exports_waiting: "dict[Path, dict[tuple[str, int], Callable[[], Begun]]]"
    """What begins each export that was asked for while another one of the experiment runs, by format and step."""
    scorings: "dict[Path, Scoring]"
    getting: "GetBenchmarks | None" = None
    """The benchmarks that are being fetched."""
    last_target: Mapping[str, str]
    """The settings of the storage target from which an experiment was opened last."""
    last_opened: Path | None = None
    """The experiment whose row the table of experiments goes to when it is shown again."""
    places: dict[tuple[Path, type], Any]
    few_colours = False
    """Whether the terminal shows 16 colours."""

    @contextlib.contextmanager
    def at_work(self, work: Work) -> Iterator[None]:
        """Around what ends with the app. Quitting meanwhile asks first, and so does moving its experiment.

        For threads: links are followed to what the workspace calls the folder, which takes as long as the disk.
        """
        root = work.root and real_path(work.root)
        if root and root.parent == real_path(self.home):
            work = replace(work, root=self.home / root.name)
        self.works.append(work)
        try:
            yield
        finally:
            self.works.remove(work)

    def place(self, root: Path, kind: type[_Place]) -> _Place:
        """Where the user was in a tab of an experiment; its defaults if it was never open. The tab updates it."""
        place: _Place = self.places.setdefault((root, kind), kind())
        return place

    @property
    def typed_at(self) -> float:
        """When the key or click arrived that is at work, by the monotonic clock: those before it take their time."""
        raise NotImplementedError

    @property
    def idle_seconds(self) -> float:
        """How long the keyboard and the mouse have not been used."""
        raise NotImplementedError

    @property
    def plain(self) -> bool:
        """Whether only plain signs are drawn: curves need letters, as each of their cells is the same sign."""
        return bool(getattr(self._driver, "plain", False))

    def notify_beside(self, message: str, *, title: str, severity: "SeverityLevel") -> None:
        """Show beside the title, in one line, what happened while somebody was busy with something else."""
        raise NotImplementedError

    def notify_of(self, run: str, message: str) -> None:
        """Show a notice of the run with this id, in the place of the one before."""
        raise NotImplementedError

    def take_back(self, run: str) -> None:
        """Remove the notice of a run, which holds no more."""
        raise NotImplementedError

    def key(self, action: str) -> str:
        """The key to name for an action."""
        return key_names.key(action)

    def copy_text(self, text: str) -> None:
        """Copy through the terminal, which may be at the other end of an SSH connection, and into a file."""
        raise NotImplementedError

    def launch(self, root: Path, stage: str, values: Mapping[str, str] | None = None) -> tuple[str, ...]:
        """Start a stage, with `values` of settings for this run alone; the warnings, which are shown.

        `BitnetError` says why it can't be. Slow: call it in a thread.
        """
        raise NotImplementedError

    def new_experiment(self, source: Path | None = None) -> None:
        """Ask for a new experiment, with the settings of `source` if there is one, and open it once it exists."""
        raise NotImplementedError

    def unlock_vault(self, locked: "VaultLocked", why: str, answered: Callable[[bool | None], None]) -> None:
        """Ask for the passphrase of the vault; `answered` is told whether it is open now."""
        raise NotImplementedError

    def compare(self, roots: Sequence[Path], runs: Sequence[str] = ()) -> None:
        """Show two to eight experiments beside each other; of those that have one in `runs`, that run."""
        raise NotImplementedError

    def open_dialog(self, name: str) -> None:
        """Open `themes`, `keymap` or `keys` over what is shown."""
        raise NotImplementedError

    def go_home(self) -> None:
        """Close everything above the table of experiments."""
        raise NotImplementedError

    def go_to(self, root: Path) -> None:
        """Show an experiment instead of what is above the table of experiments."""
        raise NotImplementedError

    def use_theme(self, name: str) -> None:
        """Show a theme, and keep it for next time."""
        raise NotImplementedError

    def open_playground(self, root: Path) -> None:
        """Ask teacher and student of an experiment."""
        raise NotImplementedError

    def open_experiment(self, root: Path, first: str | None = None, at: str | None = None) -> None:
        """Show an experiment over what is open, at a stage; `first` is one to start as soon as it is shown."""
        raise NotImplementedError
