"""The actions of the table as bindings of Textual."""

from textual.binding import Binding, BindingType

from bitnet_tui.actions import ACTIONS, Action, Where, by_id

_SCROLLING = {one: one for one in ("up", "down", "page_up", "page_down")} | {"first": "home", "last": "end"}
"""The ways to scroll, by the names of the keys that move."""


def of(where: Where) -> list[BindingType]:
    """The bindings of a screen or of the app."""
    return [_binding(action) for action in ACTIONS if action.where == where]


def one(name: str) -> Binding:
    """The binding of one action."""
    return _binding(by_id(name))


def shared(
    name: str, does: str, label: str = "", keys: str = "", *, priority: bool = False, footer: bool = False
) -> Binding:
    """A binding of an action that many widgets have and each does in its own way.

    `keys` where they differ; `priority` where it comes before those of the widget that has the focus; `footer` where
    the line of keys names it.
    """
    action = by_id(name)
    return Binding(keys or action.keys, does, label or action.label, show=footer, id=action.id, priority=priority)


def scrolling() -> list[BindingType]:
    """The bindings by which a screen scrolls its text, whatever has the focus."""
    return [shared(f"move.{name}", f"scroll('{way}')") for name, way in _SCROLLING.items()]


def _binding(action: Action) -> Binding:
    return Binding(
        action.keys,
        action.name,
        action.label,
        show=action.footer,
        tooltip=action.tooltip,
        id=action.id,
    )
