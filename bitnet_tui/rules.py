"""Which rules of the stylesheets hold for a widget: on each key, many widgets look for theirs."""

from collections.abc import Iterable
from typing import Any

from textual.css.match import _check_selectors
from textual.css.model import RuleSet
from textual.css.stylesheet import Stylesheet
from textual.css.types import Specificity3
from textual.dom import DOMNode


class Rules(Stylesheet):
    """Textual asks each rule whether it names a widget, and then compares every widget above with every selector."""

    _map: dict[str, list[RuleSet]] | None = None
    """That of the rules which `_by_names` was made of."""
    _by_names: dict[frozenset[str], list[RuleSet]]
    """By the names of a widget that occur in any rule: the rules that have one of them."""
    _named: list[RuleSet] | None = None
    """Those that may hold for the widget that is being styled."""

    @property
    def rules(self) -> list[RuleSet]:
        return super().rules if self._named is None else self._named

    def apply(self, node: DOMNode, *, animate: bool = False, cache: dict[tuple[Any, ...], Any] | None = None) -> None:
        by_name = self.rules_map
        if self._map is not by_name:
            self._map, self._by_names = by_name, {}
        names = frozenset(by_name.keys() & node._selector_names)
        if names not in self._by_names:
            named = {rule for name in names for rule in by_name[name]}
            self._by_names[names] = [rule for rule in self.rules if rule in named]
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
