"""The draft of the guide: written while one types, read again, or copied; and what is looked up for it."""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

from textual.timer import Timer

from bitnet_core.errors import BitnetError
from bitnet_core.runs.copied import Copied
from bitnet_core.runs.experiment import is_name
from bitnet_core.storage.catalog import KINDS
from bitnet_core.text import flat
from bitnet_tui.screens.guide.base import Guide
from bitnet_tui.screens.guide.step import Step
from bitnet_tui.services import drafts, keys, managing, planning, starts
from bitnet_tui.view.guide import draft as drafted
from bitnet_tui.view.guide import draft_record, teachers
from bitnet_tui.view.guide.draft import START, Draft
from bitnet_tui.view.key_rows import NO_VAULT, keeper

if TYPE_CHECKING:
    from textual.notifications import SeverityLevel

_SAVE_SECONDS = 0.3
"""How long nothing changes before the draft is written."""
_LAST_SECONDS = 2.0
"""How long the app waits for the draft as it ends."""


class KeptGuide(Guide):
    """`source` is an experiment to copy the settings of."""

    _step = "machine"
    _ready = False

    def __init__(self, source: Path | None = None) -> None:
        super().__init__()
        self._source = source
        self.draft = Draft(source=source.name if source else "")
        self.keys, self.tested, self.shared, self.carried = {}, {}, {}, {}
        self._looks, self._commands = {}, {}
        self._seen: frozenset[str] = frozenset()
        self._touched: set[str] = set()
        self._kept: drafts.Kept | None = None
        self._unsaved: Timer | None = None
        self._written = True
        """Whether the draft is kept as it is now, and not only as it was."""
        self._own = False
        self._returned = False
        """Whether the draft is one that was left before."""
        self._greeting = ""
        """The step that is shown first of such a draft."""
        self._moving = asyncio.Lock()
        self._start_sought = ""
        """The model that was looked for last."""

    @property
    def _current(self) -> Step | None:
        """The step that is shown."""
        found = self.query(Step)
        return found.last() if found else None

    async def _come_to(self, step: str, field: str = "") -> None:
        """Show a step, with the focus on its first field or the one of a setting."""
        raise NotImplementedError

    def _show_rail(self) -> None:
        """Show the steps, with what is wrong in them."""
        raise NotImplementedError

    def _show_faults(self) -> None:
        """Show what is wrong in this step."""
        raise NotImplementedError

    # -- what is looked up ----------------------------------------------------------------------------------------

    def _look_around(self) -> None:
        """Begin what is looked up while the guide is open."""
        home = self.shell.home
        self._kept = drafts.Kept(home, self._source)
        self.look("taken", lambda: managing.names_in(home), self._know_taken)
        self.look("draft", self._begun, self._begin_with, self._not_copied)
        self.look("others", lambda: drafts.others(home, self._source), self._know_others)
        self.look("prices", teachers.prices, lambda found: self._know("prices", found))
        self.look("machine", lambda: planning.machine(home), lambda found: self._know("machine", found))
        plan = planning.Plan(home, self.place, {}, timed=False)
        self.ask("fits", plan, lambda found: self._know("fits", found), lambda why: self._know("fits-problem", why))
        self.learn_keys()

    def _know(self, name: str, found: Any) -> None:
        self.shared[name] = found
        self._tell_step()

    def _know_others(self, found: list[tuple[str, dict[str, str]]]) -> None:
        self._know("others", [drafted.of_settings(values, name) for name, values in found])

    def _tell_step(self) -> None:
        step = self._current
        if step is not None and self._ready:
            step.changed()

    def _know_taken(self, names: frozenset[str]) -> None:
        self.taken = names
        self._tell_step()

    def learn_keys(self) -> None:
        """Ask where each key is kept, and where a new one goes. A keyring may take seconds."""
        found = partial(keys.held, self.shell.home)
        self.look("keys", found, self._know_keys, lambda why: self._know("keyring", why))

    def _know_keys(self, found: keys.Holders) -> None:
        self.held = {one.name: one for one in found.keys}
        self.keeper = keeper(found.keyring, found.vault)
        self._show_rail()
        self._know("keyring", self.keeper if self.keeper != NO_VAULT else "a new vault; no keyring")

    @property
    def asks_first(self) -> str:
        if self.keeper != NO_VAULT or not self.typed_keys:
            return ""
        return " It first asks for a passphrase, for the vault that your keys will be in."

    def key_counts(self, name: str) -> bool:
        """Whether a typed key is one of the chosen teacher or target."""
        backend = self.draft.backend
        return name == self.draft.teacher.key_setting or (bool(backend) and name in KINDS[backend].keys)

    # -- the draft ------------------------------------------------------------------------------------------------

    def _begun(self) -> tuple[Any, Copied | None]:
        """The draft that was left, or the settings of the experiment to copy."""
        kept = self._kept
        record = kept.read() if kept else None
        if self._source is None:
            return record, None
        try:
            return record, drafts.settings_of(self.shell.home, self._source)
        except BitnetError:
            if record is None:
                raise
            return record, None  # the draft has all that is needed

    async def _adopt(self, draft: Draft, step: str) -> None:
        self.draft = draft
        self._own = True
        self._look_at_start()
        await self._come_to(step)

    async def adopt(self, draft: Draft) -> None:
        self.stop_test()
        self._touched |= {name for name in draft.values if draft.get(name) != self.draft.get(name)}
        await self._adopt(draft, self._step)
        self._changed()

    def _begin_with(self, found: tuple[Any, Copied | None]) -> None:
        record, copied = found
        copy = drafted.of_settings(copied.values, self.draft.source) if copied is not None else None
        if copied is not None and copy is not None:
            self.copied = drafted.settings(copy)
            self.source_traces, self.source_checkpoints = copied.traces, copied.checkpoints
            self._tell_step()
        if self._own:  # something was chosen before it could be read
            return
        kept = draft_record.from_record(record)
        if kept is not None and not kept.empty:
            self._returned = True
            self._greeting = kept.step
            self._seen |= drafted.visited(kept)
            self.call_next(self._adopt, replace(kept, source=self.draft.source), kept.step)
        elif copied is not None and copy is not None:
            copy = replace(copy, step="student")  # what comes before is most often to stay as it is
            self._seen |= drafted.visited(copy)
            self.call_next(self._adopt, copy, copy.step)
            if copied.keys:
                # What the step advises is said at the foot, in place of what was said there.
                self.notify("Keys in its .env are not copied; keep them in the keyring.")
        else:
            self.call_next(self._come_to, self._step)

    def _not_copied(self, why: str) -> None:
        if self._current is None:
            self.call_next(self._come_to, self._step)
        self.call_next(self.say, why, "warn")

    def action_afresh(self) -> None:
        """Ask whether to forget the draft. Not while it is being made."""
        from bitnet_tui.screens.confirm import ConfirmScreen

        if self.draft.empty:
            self.say("There is no draft to drop: nothing has been chosen yet.", "label")
            return
        if self.busy and self._testing is None:
            return

        def answered(yes: bool | None) -> None:
            if yes and self.on_stack:
                self.call_next(self._forget_draft)

        again = f"begins again as a copy of {flat(self.draft.source)}" if self._source else "begins again"
        why = f"All that was chosen and typed is forgotten, and the guide {again}."
        self.app.push_screen(
            ConfirmScreen("Drop this draft?", why, "Drop it", "The draft is kept.", final=True), answered
        )

    async def _forget_draft(self) -> None:
        self.draft, self._seen, self._touched = Draft(source=self.draft.source), frozenset(), set()
        self._greeting = ""
        self.stop_test()
        self.tested.clear()
        self.keys.clear()
        self._own = self._source is None
        self._returned = False
        if self._kept is not None:

            def removed(_: object) -> None:
                self._begin_again()

            kept, turn = self._kept, time.monotonic_ns()
            self.look("save", lambda: kept.remove(turn), removed)
        self.say("", "")
        if self._source is None:
            await self._come_to("machine")

    def _begin_again(self) -> None:
        if self._source is not None:
            self.look("draft", self._begun, self._begin_with, self._not_copied)

    def change(self, name: str, text: str) -> None:
        changed = self.draft.having(name, text)
        if changed == self.draft:  # a field that was filled with it
            return
        self._own = True
        self._touched.add(name)
        self.draft = changed
        self._changed()

    def type_key(self, name: str, text: str) -> None:
        if text != self.keys.get(name, ""):  # else a field was filled with it
            super().type_key(name, text)
            self._changed()

    def bring_traces(self, wanted: bool) -> None:
        self._own = True
        self.draft = replace(self.draft, traces=wanted)
        self._changed()
        self._tell_step()

    def choose_start(self, value: str) -> None:
        if value != self.draft.start:
            self._own = True
            self.draft = replace(self.draft, start=value)
            self._save_soon()

    def rename(self, name: str) -> None:
        """Give the experiment a name; an empty one is the suggestion."""
        if name == self.draft.name:
            return
        self._own = True
        self._touched.add("NAME")
        self.draft = replace(self.draft, name=name)
        self._changed()
        self._tell_step()

    def _changed(self) -> None:
        self._save_soon()
        self._look_at_start()
        self._show_faults()

    def _look_at_start(self) -> None:
        """Look for the model that the draft starts from, unless that is known or being done."""
        text = self.draft.get(START)
        if text != self._start_sought:
            self._start_sought = text
            self.look("start", partial(starts.known, text), self._know_start)

    def _know_start(self, found: starts.Start) -> None:
        self._show_rail()
        self._know("start", found)

    def _save_soon(self) -> None:
        self._stop_saving()
        self.drop("save")  # it is of the draft before
        self._written = False
        self._unsaved = self.set_timer(_SAVE_SECONDS, self._save)

    def _stop_saving(self) -> None:
        if self._unsaved is not None:
            self._unsaved.stop()
            self._unsaved = None

    def _save(self) -> None:
        self._unsaved = None
        self.look("save", self._write(), self._saved, self._not_saved)

    def _saved(self, _: object) -> None:
        self._written = True

    def _write(self) -> Callable[[], object]:
        kept, draft, turn = self._kept, self.draft, time.monotonic_ns()
        typed = {name: value for name, value in self.keys.items() if value}
        if kept is None:
            return lambda: None
        if draft.empty:
            return lambda: kept.remove(turn)
        return lambda: kept.write(draft_record.to_record(draft, typed), turn)

    def _not_saved(self, why: str) -> None:
        self.say(f"The draft can't be kept: {why}", "warn")

    def _leave_draft(self) -> None:
        """Keep the draft as the guide closes, and say that it is kept once it is, or why it is not."""
        self._stop_saving()
        app, key = self.app, self.shell.key("list.duplicate" if self._source else "list.new")
        kept = f"Draft kept; {key} continues it." if self._touched and not self.draft.empty else ""
        write = (lambda: None) if self._written else self._write()
        self._written = True

        def keep() -> None:
            said = kept
            severity: SeverityLevel = "information"
            try:
                write()
            except (BitnetError, OSError) as error:
                said, severity = f"The draft can't be kept: {error}", "warning"
            if said:
                app.call_later(partial(app.notify, said, title="New experiment", severity=severity))

        app.run_worker(keep, thread=True, description="keep the draft")

    async def on_unmount(self) -> None:
        for group in list(self._commands):
            self.drop(group)
        self.stop_test()
        if not self._written:  # the app is closing
            # Off the event loop, and in a thread of its own: a disk that hangs must not keep the app from ending.
            thread = Thread(target=partial(_quietly, self._write()), daemon=True)
            thread.start()
            await asyncio.to_thread(thread.join, _LAST_SECONDS)

    @property
    def suggested(self) -> str:
        """The name that it gets if none is typed."""
        return drafted.suggested_name(self.draft, self.taken)

    @property
    def named(self) -> Draft:
        return self.draft if self.draft.name else replace(self.draft, name=self.suggested)

    @property
    def place(self) -> Path:
        name = self.draft.name
        return self.shell.home / (name if is_name(name) and name not in self.taken else self.suggested)


def _quietly(write: Callable[[], object]) -> None:
    with suppress(BitnetError, OSError):
        write()
