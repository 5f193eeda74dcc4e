"""API keys: where each comes from and may go; setting, moving and deleting them.

At most the end of a value is shown.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from bitnet_core.secrets.known import remember
from bitnet_core.settings.registry import SECRET_NAMES
from bitnet_tui import bindings
from bitnet_tui.remedies import in_app
from bitnet_tui.screens.confirm import ConfirmScreen
from bitnet_tui.screens.key_entry import KeyEntryScreen
from bitnet_tui.screens.keyed import KeyedScreen
from bitnet_tui.services import keys
from bitnet_tui.theme import paint
from bitnet_tui.view import key_rows
from bitnet_tui.view.offered import closes
from bitnet_tui.view.spans import Line, Span, line
from bitnet_tui.widgets.links import Links
from bitnet_tui.widgets.lists import Entries
from bitnet_tui.widgets.painted import Painted
from bitnet_tui.widgets.words import Words, titled

if TYPE_CHECKING:
    from bitnet_core.secrets.inventory import Held

    _Found = tuple[tuple[Held, ...], Line, str, tuple[str, ...], Mapping[str, tuple[str, ...]]]


class KeysScreen(KeyedScreen[None]):
    """`root` is the open experiment, whose `.env` counts too; None if no experiment is open."""

    CSS_PATH = ["cards.tcss", "keys.tcss"]  # noqa: RUF012
    BINDINGS = bindings.of("keys")

    def __init__(self, root: Path | None = None) -> None:
        super().__init__()
        self._root = root
        self._held: dict[str, Held] = {}
        self._keeper = ""
        self._allowed: Mapping[str, tuple[str, ...]] = {}

    def compose(self) -> ComposeResult:
        with Vertical(classes="card keys"):
            yield Words(titled("API keys", closes("keys.close")), classes="title")
            yield Painted(id="places")
            yield Entries(id="entries", markup=False)
            yield Painted(id="about")
            yield Painted(id="problem", classes="-empty")
            yield Links(id="keys")

    def on_mount(self) -> None:
        self.query_one("#entries").focus()
        self.query_one("#places", Painted).say("Asking the OS keyring…", "label")
        self._describe(None)
        self._read()

    def refused(self, problem: str) -> None:
        if not self._held:  # the first look failed, so nothing is being asked any more
            self.query_one("#places", Painted).show(())
        self.say(problem, "bad")

    # -- drawing ---------------------------------------------------------------------------------------------------

    def _read(self) -> None:
        inventory_of = partial(keys.inventory, self.shell.home, self._root)

        def look() -> "_Found":
            inventory = inventory_of()
            state, held = inventory.status(SECRET_NAMES)
            vault = inventory.places.existing_vault
            allowed, unreadable = keys.allowed()
            notes = (*inventory.vault_notes(), *filter(None, [unreadable]))
            summary, keeper = key_rows.summary(state, vault), key_rows.keeper(state, vault)
            return held, summary, keeper, notes, allowed

        self.attempt(look, self._show)

    def _show(self, found: "_Found") -> None:
        held, summary, self._keeper, notes, self._allowed = found
        self._held = {one.name: one for one in key_rows.ordered(held)}
        self.query_one("#places", Painted).show((summary, *(line(Span(note, "warn")) for note in notes)))
        self._draw()

    def on_resize(self) -> None:
        if self._held and not self.too_small:  # hidden, it stays as it was
            self.call_after_refresh(self._draw)

    def _draw(self) -> None:
        entries = self.query_one("#entries", OptionList)
        before, names = entries.highlighted_option, list(self._held)
        cells = max(24, entries.size.width - 4)
        entries.set_options([Option(paint([key_rows.row(one, cells)]), id=name) for name, one in self._held.items()])
        entries.highlighted = names.index(before.id or "") if before else 0
        self._describe(self._highlighted)

    def on_option_list_option_highlighted(self) -> None:
        self._describe(self._highlighted)

    def _describe(self, held: "Held | None") -> None:
        allowed = self._allowed.get(held.name, ()) if held else ()
        self.query_one("#about", Painted).show((key_rows.about(held, allowed) if held else (),))
        self.query_one("#keys", Links).offer(key_rows.offers(held, allowed))

    @property
    def _highlighted(self) -> "Held | None":
        option = self.query_one("#entries", OptionList).highlighted_option
        return self._held.get(option.id or "") if option else None

    def _changed(self, sentence: str) -> None:
        self.say(sentence, "good")
        self._read()

    # -- changing keys ---------------------------------------------------------------------------------------------

    def on_option_list_option_selected(self) -> None:
        self.action_set()

    def action_set(self) -> None:
        if self.busy or not (held := self._highlighted):
            return
        name = held.name

        def typed(value: str | None) -> None:
            if value:
                remember([value])
                home = self.shell.home
                self.attempt(
                    lambda: keys.keep(home, name, value, self._root),
                    self._changed,
                    title="API key",
                    doing="Keeping the key…",
                    **keys.VAULT_INSTEAD,
                )

        self.app.push_screen(KeyEntryScreen(name, self._keeper), typed)

    def action_move(self) -> None:
        if self.busy or not (held := self._highlighted):
            return
        if not held.movable:
            self.say(key_rows.why_not_movable(held), "warn")
            return
        name = held.name

        inventory = partial(keys.inventory, self.shell.home, self._root)

        def move() -> str:
            found = inventory().move(name)
            names = " and ".join((name, *found.along))
            files = " and ".join(str(path) for path in found.cleaned)
            left = f" {found.left[0]} still holds its value or another one; check it." if found.left else ""
            return f"{names} moved out of {files}.{left}"

        self.attempt(move, self._changed, title="API key", doing="Moving the key…", **keys.VAULT_INSTEAD)

    def action_delete(self) -> None:
        if self.busy or not (held := self._highlighted) or not held.origin:
            return
        if not key_rows.deletable(held):
            self.say(f"{held.name} is set by {held.origin}; remove it there.", "warn")
            return
        name = held.name

        inventory = partial(keys.inventory, self.shell.home, self._root)

        def delete() -> str:
            inventory().places.forget(name)
            return f"{name} is deleted."

        def answered(yes: bool | None) -> None:
            if yes:
                self.attempt(delete, self._changed, title="API key")

        why = f"It will be deleted from the {held.origin.removesuffix(' (locked)')} and can't be recovered."
        self.app.push_screen(
            ConfirmScreen(in_app(f"Delete {name}?"), why, "Delete it", "Nothing was deleted.", final=True), answered
        )

    def action_disallow(self) -> None:
        if self.busy or not (held := self._highlighted):
            return
        if not (allowed := self._allowed.get(held.name, ())):
            self.say(f"{held.name} was not allowed to go to any address that came with an experiment.", "warn")
            return
        self.attempt(partial(keys.disallow, held.name, allowed), self._changed, title="API key")
