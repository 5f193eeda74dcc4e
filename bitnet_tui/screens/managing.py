"""What can be done with whole experiments from the table: rename, archive, delete, fetch from a storage target.

What only a change needs is imported by it: the table is drawn first.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from bitnet_core.text import flat
from bitnet_tui.screens.keyed import AttemptingScreen

_MOST_NAMED = 3


def _named(names: Sequence[str]) -> str:
    return ", ".join(map(flat, names[:_MOST_NAMED])) + (" …" if len(names) > _MOST_NAMED else "")


class ManagingScreen(AttemptingScreen[None]):
    """Works on `chosen`, one call at a time; whatever fails is told in a dialog."""

    archived_last: Path | None = None
    """Where to go when archived ones are shown: what was archived last is what one may want back."""

    @property
    def chosen(self) -> tuple[Path, ...]:
        raise NotImplementedError

    @property
    def at_work(self) -> Sequence[str]:
        """What runs in what is chosen, as clauses."""
        raise NotImplementedError

    def changed(self, root: Path | None = None) -> None:
        """Look again; `root` is the experiment to go to."""
        raise NotImplementedError

    def refused(self, problem: str) -> None:
        from bitnet_tui.screens.message import MessageScreen

        if self.is_active:
            self.app.push_screen(MessageScreen("That can't be done", problem))
        else:
            self.app.notify(problem, title="That can't be done", severity="error")

    def _free(self) -> bool:
        if self.busy:
            self.notify("The previous change is still being made.", severity="warning")
        return self.is_active and not self.busy

    def _names(self) -> list[str]:
        return [root.name for root in self.chosen]

    def action_rename(self) -> None:
        if not self.chosen or not self._free():
            return
        if len(self.chosen) > 1:
            clear = self.shell.key("list.clear")
            words = f"Only one experiment can be renamed at a time; {clear} clears the marks."
            self.notify(words, severity="warning")
            return
        from bitnet_tui.screens.renaming import RenameScreen

        (root,) = self.chosen
        if problem := self._busy_there():
            self.refused(problem)
            return
        self.app.push_screen(RenameScreen(root), self._renamed)

    def _renamed(self, done: dict[str, Any] | None) -> None:
        if done is None:
            return
        for remark in done.get("remarks", ()):
            self.notify(flat(str(remark)), title="Renamed")
        self.changed(Path(str(done.get("folder", ""))))

    def archive(self, *, archived: bool) -> None:
        from bitnet_tui.view import going

        if archived and (problem := going.refusal(self.at_work)):
            self.refused(problem)
        elif self.chosen and self._free():
            from bitnet_tui.services import managing

            action = "archive" if archived else "unarchive"
            roots = self.chosen
            work = partial(managing.change, self.shell.home, action, self._names())
            self.attempt(work, lambda _: self._archived(roots, archived=archived), title="Archive")

    def _archived(self, roots: Sequence[Path], *, archived: bool) -> None:
        names = _named([root.name for root in roots])
        show, back = self.shell.key("list.archived"), self.shell.key("list.archive")
        if archived:
            self.notify(f"Archived {names}. {show} shows archived experiments; {back} restores one.")
        else:
            self.notify(f"Restored {names} from the archive.")
        self.archived_last = roots[0] if archived else None
        self.changed(roots[0] if len(roots) == 1 else None)

    def _busy_there(self) -> str:
        """Why what is chosen has to stay as it is; empty if it need not."""
        from bitnet_tui.view import going

        return going.refusal([*(one.what for one in self.shell.works if one.root in self.chosen), *self.at_work])

    def action_delete(self) -> None:
        """Ask what would go, and then the user."""
        if problem := self._busy_there():
            self.refused(problem)
        elif self.chosen and self._free():
            from bitnet_tui.services import managing

            work = partial(managing.change, self.shell.home, "delete", self._names())
            self.attempt(work, self._ask_to_delete, title="Delete")

    def _ask_to_delete(self, found: dict[str, Any]) -> None:
        from bitnet_tui.screens.confirm import ConfirmScreen
        from bitnet_tui.view import going

        if not self.is_active:  # who asked has gone on to something else
            return
        experiments: Sequence[dict[str, Any]] = found["experiments"]
        if problem := going.running(experiments):
            self.refused(problem)
            return
        title, why, yes, unchanged = going.question(experiments)
        names = [str(one["name"]) for one in experiments]
        self.app.push_screen(ConfirmScreen(title, why, yes, unchanged, final=True), partial(self._delete, names))

    def _delete(self, names: Sequence[str], yes: bool | None) -> None:
        if yes:
            from bitnet_tui.services import managing

            self.notify(f"Deleting {_named(names)}")
            work = partial(managing.change, self.shell.home, "delete", names, "--yes")
            self.attempt(work, lambda _: self.changed(), title="Delete")

    def action_fetch(self) -> None:
        if self._free():
            from bitnet_tui.screens.guide.fetch import FetchScreen

            self.app.push_screen(
                FetchScreen(self.shell.last_target), lambda made: self.changed(made.root) if made else None
            )
