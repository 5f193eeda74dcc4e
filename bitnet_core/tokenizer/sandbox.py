"""A Jinja sandbox for chat templates, with limits on memory and time.

A template comes from a stranger. Jinja's sandbox keeps it away from Python; it does not stop a loop without end, or a
string that doubles forty times. Here loops, outputs, calls, filters and operators are counted before they work.
"""

import functools
import math
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, cast

import jinja2
from jinja2 import nodes
from jinja2.environment import Environment
from jinja2.ext import loopcontrols
from jinja2.nodes import EvalContext
from jinja2.runtime import Context, Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

from bitnet_core.tokenizer.template_names import FILTERS, GLOBALS, GenerationTag

LONGEST_SOURCE = 1 << 17
"""Characters of a template. The longest that models have are around 30,000."""
_LONGEST_VALUE = 1 << 23
"""Characters of one value."""
_ELEMENT = 8
"""What an element of a list counts, in characters."""
_ALL_VALUES = 1 << 26
"""Characters, steps and calls of one rendering."""
_LARGEST_PRODUCT = 1 << 28
"""A result is no larger than the product of its operands' sizes; this bounds what is not measured before."""
_LARGEST_NUMBER_BITS = 1 << 12
_SECONDS = 2.0
"""Of the thread's own time: a machine that is busy or asleep refuses no prompt."""
_STEPS_BY_CLOCK = 64
_LARGE_STEP = 1 << 16
_LARGE_WIDTH = re.compile(r"%[^a-zA-Z%]*\d{7}|\{[^{}]*\d{7}")
"""A field of a format that would be padded to millions of characters."""
_SMALL_FILTERS = {
    *("abs", "attr", "count", "d", "default", "filesizeformat", "first", "float", "int", "last", "length"),
    *("random", "round", "safe"),
}
"""Filters that make nothing larger than what they get."""


class TooMuch(Exception):
    """The template exceeds a limit; the message is a clause that says which."""


class _Budget(threading.local):
    """What the rendering of this thread may still use."""

    left = _ALL_VALUES
    steps = 0
    until = math.inf

    def refill(self) -> None:
        self.left, self.steps, self.until = _ALL_VALUES, 0, time.thread_time() + _SECONDS

    def spend(self, amount: int) -> None:
        self.left -= amount
        self.steps += 1
        if self.left < 0:
            raise TooMuch(f"it makes more than {_ALL_VALUES:,} characters or steps")
        if (self.steps % _STEPS_BY_CLOCK == 0 or amount > _LARGE_STEP) and time.thread_time() > self.until:
            raise TooMuch(f"it takes more than {_SECONDS:g} s")


class ChatSandbox(ImmutableSandboxedEnvironment):
    """Compiles chat templates; call `budget.refill()` before each rendering. Safe for several threads."""

    intercepted_binops = frozenset(("+", "*", "%", "**"))

    def __init__(self) -> None:
        # Optimising would compute constants, such as a string of megabytes, while compiling.
        super().__init__(
            optimized=False, trim_blocks=True, lstrip_blocks=True, extensions=[GenerationTag, loopcontrols]
        )
        self.budget = _Budget()
        self.filters |= FILTERS
        for name, one in self.filters.items():
            if name not in _SMALL_FILTERS:
                self.filters[name] = self._limited(name, one)
        self.filters[_COUNTED], self.filters[_MEASURED] = self._counted, self._measured
        self.filters[_COMPARED] = self._compared
        for name in _COMPARING_TESTS & self.tests.keys():
            self.tests[name] = self._comparing(cast("Callable[..., Any]", self.tests[name]))
        self.globals |= GLOBALS
        del self.globals["lipsum"]  # makes text by the megabyte, in one call

    def chat_template(self, source: str) -> jinja2.Template:
        """The compiled template, with its loops and outputs counted. Jinja's errors, TooMuch, RecursionError."""
        if len(source) > LONGEST_SOURCE:
            raise TooMuch(f"it is longer than {LONGEST_SOURCE:,} characters")
        self.budget.refill()  # Jinja computes constant outputs now
        tree = _Counting().visit(self.parse(source))
        return self.from_string(tree.set_environment(self))

    # -- what is counted ---------------------------------------------------------------------------------

    def _counted(self, values: Iterable[Any], cost: int) -> Iterator[Any]:
        """The values of a loop; each costs the literal text in its body."""
        for value in values:
            self.budget.spend(cost)
            yield value

    def _measured(self, value: Any) -> Any:
        """A value that becomes text."""
        self.budget.spend(_size(value))
        return value

    def _compared(self, value: Any) -> Any:
        """An operand of a comparison. Lists that hold one list many times are walked as often as they hold it."""
        self.budget.spend(1 + _size(value) // _ELEMENT)
        return value

    def _comparing(self, one: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(one)
        def comparing(*operands: Any) -> Any:
            return one(*map(self._compared, operands))

        return comparing

    def _limited(self, name: str, one: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(one)
        def limited(*given: Any, **named: Any) -> Any:
            value, *options = [part for part in given if not isinstance(part, Context | Environment | EvalContext)]
            if name == "format":
                _check_format(value)
            _check_product(_size(value), [*options, *named.values()])
            result = one(*given, **named)
            self.budget.spend(1 + _size(result))
            return result

        return limited

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805 - as in Jinja
        __self.budget.spend(1)
        formats = hasattr(__obj, "__wrapped__")  # the sandbox wraps `str.format`
        owner = getattr(__obj.__wrapped__ if formats else __obj, "__self__", None)
        if isinstance(owner, str | list | tuple):  # a method of a value, such as `ljust`
            if formats:
                _check_format(owner)
            _check_product(_size(owner), [*args, *kwargs.values()])
        elif isinstance(__obj, Macro):
            __self.budget.spend(_size(args) + _size(kwargs))
        result = super().call(__context, __obj, *args, **kwargs)
        if owner is not None or isinstance(__obj, Macro):
            __self.budget.spend(_size(result))
        return result

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        if isinstance(left, int | float) and isinstance(right, int | float):
            _check_numbers(operator, left, right)
        elif operator == "+":
            self.budget.spend(_length(left) + _length(right))
            return left + right
        elif operator == "*":
            left, right = (right, left) if isinstance(left, int) else (left, right)
            _check_product(_length(left), [right])
            self.budget.spend(_length(left) * right if isinstance(right, int) else 1)
        elif isinstance(left, str):
            _check_format(left)
            _check_product(_size(left), right if isinstance(right, tuple) and "*" in left else [_size(right)])
        result = super().call_binop(context, operator, left, right)
        self.budget.spend(_size(result) if isinstance(result, str) else 1)
        return result


def _check_product(size: int, operands: Iterable[Any]) -> None:
    """TooMuch if a result could be too large: each whole number repeats or pads, each text replaces or joins."""
    for one in operands:
        size = (1 + size) * (1 + (abs(one) if isinstance(one, int) else _size(one)))
    if size > _LARGEST_PRODUCT:
        raise _too_long()


def _check_format(text: Any) -> None:
    if isinstance(text, str) and _LARGE_WIDTH.search(text):
        raise _too_long()


def _check_numbers(operator: str, left: float, right: float) -> None:
    if isinstance(left, int) and isinstance(right, int) and operator in ("*", "**"):
        bits = left.bit_length() * right if operator == "**" else left.bit_length() + right.bit_length()
        if bits > _LARGEST_NUMBER_BITS:
            raise TooMuch("it computes with numbers of thousands of digits")


def _size(value: Any) -> int:
    """The characters and elements in a value. TooMuch above the limit, which also ends the walk."""
    if isinstance(value, str):
        if len(value) > _LONGEST_VALUE:
            raise _too_long()
        return len(value)
    total = 0
    waiting = [value]
    while waiting:
        one = waiting.pop()
        total += _length(one)
        if total > _LONGEST_VALUE:
            raise _too_long()
        if isinstance(one, dict):
            waiting += [*one.keys(), *one.values()]
        elif isinstance(one, list | tuple):
            waiting += one
    return total


def _length(value: Any) -> int:
    if isinstance(value, str):
        return len(value)
    return _ELEMENT * len(value) if isinstance(value, list | tuple | dict) else 1


def _too_long() -> TooMuch:
    return TooMuch(f"it makes a value of more than {_LONGEST_VALUE:,} characters")


# -- the tree --------------------------------------------------------------------------------------------

_COUNTED, _MEASURED, _COMPARED = "_counted", "_measured", "_compared"
_COMPARING_TESTS = {
    *("==", "!=", ">", ">=", "<", "<=", "eq", "equalto", "ne", "in"),
    *("gt", "greaterthan", "ge", "lt", "lessthan", "le"),
}


class _Counting(NodeTransformer):
    """Puts the counting filters around whatever repeats or makes text."""

    def visit_For(self, node: nodes.For) -> nodes.For:
        self.generic_visit(node)
        literal = sum(len(text.data) for text in node.find_all(nodes.TemplateData))
        node.iter = _filtered(node.iter, _COUNTED, nodes.Const(1 + literal))
        return node

    def visit_Output(self, node: nodes.Output) -> nodes.Output:
        self.generic_visit(node)
        node.nodes = [one if isinstance(one, nodes.TemplateData) else _filtered(one, _MEASURED) for one in node.nodes]
        return node

    def visit_Compare(self, node: nodes.Compare) -> nodes.Compare:
        self.generic_visit(node)
        node.expr = _filtered(node.expr, _COMPARED)
        for operand in node.ops:
            operand.expr = _filtered(operand.expr, _COMPARED)
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Expr:
        self.generic_visit(node)
        return _filtered(node, _MEASURED)


def _filtered(node: Any, name: str, *arguments: nodes.Expr) -> nodes.Filter:
    return nodes.Filter(node, name, list(arguments), [], None, None, lineno=node.lineno)
