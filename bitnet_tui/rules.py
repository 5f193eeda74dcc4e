"""The rules of the stylesheets: each is read once, and on each key many widgets look for those that hold for them."""

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from textual.app import App
from textual.cache import LRUCache
from textual.css.match import _check_selectors
from textual.css.model import RuleSet
from textual.css.stylesheet import Stylesheet
from textual.css.types import Specificity3
from textual.dom import DOMNode
from textual.widget import Widget

_SHEETS = 1000
"""More than there are: each class of widgets has one."""


class Rules(Stylesheet):
    """Textual asks each rule whether it names a widget, and then compares every widget above with every selector."""

    _all: list[RuleSet] | None = None
    """Those that `_places` and `_by_names` were made of."""
    _places: dict[str, list[int]]
    """By a name: where in all rules those are that have it."""
    _by_names: dict[frozenset[str], list[RuleSet]]
    """By the names of a widget that occur in any rule: the rules that have one of them, in their order."""
    _named: list[RuleSet] | None = None
    """Those that may hold for the widget that is being styled."""

    def __init__(self, *, variables: dict[str, str] | None = None) -> None:
        super().__init__(variables=variables)
        self._parse_cache = LRUCache(_SHEETS)

    def reparse(self) -> None:
        """As in Textual, which forgets what it has parsed and so parses all sheets at the first opening of a screen.

        Those with other variables are not among it.
        """
        self.parse()

    def ahead(self) -> Iterator[bool]:
        """Parse the sheets of all widgets that are imported and of all screens, one a step, before one needs them.

        One that can't be read or parsed is passed over: opening its screen says what is wrong.
        """
        for kind in dict.fromkeys(_below(Widget)):
            with contextlib.suppress(Exception):
                for read_from, css, tie_breaker, scope in kind.__new__(kind)._get_default_css():
                    self._parse_rules(css, read_from, is_default_rules=True, tie_breaker=tie_breaker, scope=scope)
            yield True
        for path in sorted((Path(__file__).parent / "screens").rglob("*.tcss")):
            with contextlib.suppress(Exception):  # while a newer version is installed, files come and go
                self._parse_rules(path.read_text(encoding="utf-8"), (str(path), ""))
            yield True

    @property
    def rules(self) -> list[RuleSet]:
        return super().rules if self._named is None else self._named

    def update_nodes(self, nodes: Iterable[DOMNode], animate: bool = False) -> None:
        """As in Textual, but not for a widget that has no place yet: it gets its styles when it is mounted.

        While a button is made, Textual would look for them four times.
        """
        super().update_nodes((one for one in nodes if one.parent is not None or isinstance(one, App)), animate)

    def apply(self, node: DOMNode, *, animate: bool = False, cache: dict[tuple[Any, ...], Any] | None = None) -> None:
        if self._all is not self.rules:
            _ = self.rules_map  # Textual makes it when it is first asked for, of all rules
            self._all, self._places, self._by_names = self.rules, {}, {}
            for place, rule in enumerate(self._all):
                for name in rule.selector_names:
                    self._places.setdefault(name, []).append(place)
        names = frozenset(self._places.keys() & node._selector_names)
        if names not in self._by_names:
            places = {place for name in names for place in self._places[name]}
            self._by_names[names] = [self._all[place] for place in sorted(places)]
        self._named = self._by_names[names]
        try:
            super().apply(node, animate=animate, cache=cache)
        finally:
            self._named = None

    def _process_component_classes(self, node: DOMNode) -> None:
        """Textual's last step of `apply`, which applies the styles of a widget's parts."""
        self._named = None
        super()._process_component_classes(node)

    @classmethod
    def _check_rule(cls, rule_set: RuleSet, css_path_nodes: list[DOMNode]) -> Iterable[Specificity3]:
        """Most rules fail at the widget itself, which the last selector is for; what is above it is not looked at."""
        widget = css_path_nodes[-1]
        for one in rule_set.selector_set:
            if one.selectors[-1].check(widget) and _check_selectors(one.selectors, css_path_nodes):
                yield one.specificity


def _below(kind: type[Widget]) -> Iterator[type[Widget]]:
    for one in kind.__subclasses__():
        yield one
        yield from _below(one)
