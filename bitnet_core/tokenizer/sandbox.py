"""A Jinja sandbox for chat templates, with limits on memory and time.

A template comes from a stranger. Jinja's sandbox keeps it away from Python; it does not stop a loop without end, or a
string that doubles forty times. Here each loop, output, call, filter and operator is paid for before it works, by the
most that it can make (`template_sizes.py`).
"""

import functools
import math
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from typing import Any, cast

import jinja2
from jinja2 import nodes
from jinja2.environment import Environment
from jinja2.ext import loopcontrols
from jinja2.filters import make_attrgetter
from jinja2.nodes import EvalContext
from jinja2.runtime import Context, LoopContext, Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Cycler, Joiner
from jinja2.visitor import NodeTransformer
from markupsafe import Markup

from bitnet_core.tokenizer import template_sizes
from bitnet_core.tokenizer.template_names import FILTERS, GLOBALS, GenerationTag
from bitnet_core.tokenizer.template_sizes import ELEMENT, LONGEST_VALUE, TooMuch, length, size, text_size, too_long

LONGEST_SOURCE = 1 << 17
"""Characters of a template. The longest that models have are around 30,000."""
_ALL_VALUES = 1 << 26
"""Characters, steps and calls of one rendering."""
_STEP, _CALL, _LITERAL = 16, 256, 256
"""What a step, a call, and a list or object that is written out count, in characters."""
_SECONDS = 2.0
"""Of the thread's own time: a machine that is busy or asleep refuses no prompt."""
_CLOCK = 1 << 16
"""Characters after which the clock is looked at; a step counts as many as 64 of them make."""
_ESCAPED = 6
"""Characters that one becomes when text is put into text that is marked as safe."""


_OF_JINJA = ("_loop_vars", "_block_vars")
"""Operands that compiled templates add to a call."""


class _Budget(threading.local):
    """What the rendering of this thread may still use."""

    left = _ALL_VALUES
    unclocked = 0
    until = math.inf

    def refill(self) -> None:
        self.left, self.unclocked, self.until = _ALL_VALUES, 0, time.thread_time() + _SECONDS

    def spend(self, amount: int) -> None:
        self.left -= amount + _STEP
        if self.left < 0:
            raise TooMuch(f"it makes more than {_ALL_VALUES:,} characters or steps")
        self.unclocked += amount + _CLOCK // 64
        if self.unclocked > _CLOCK:
            self.unclocked = 0
            if time.thread_time() > self.until:
                raise TooMuch(f"it takes more than {_SECONDS:g} s")

    def spend_on_value(self, most: int) -> None:
        """Pay for a value of at most `most` characters; TooMuch, too, for one that is too large."""
        if most > LONGEST_VALUE:
            raise too_long()
        self.spend(most)


class ChatSandbox(ImmutableSandboxedEnvironment):
    """Compiles chat templates; call `budget.refill()` before each rendering. Safe for several threads."""

    intercepted_binops = frozenset(("+", "-", "*", "%", "**"))

    def __init__(self) -> None:
        # Optimising would compute constants, such as a string of megabytes, while compiling.
        super().__init__(
            optimized=False, trim_blocks=True, lstrip_blocks=True, extensions=[GenerationTag, loopcontrols]
        )
        self.budget = _Budget()
        self.filters |= FILTERS
        for name, one in self.filters.items():
            self.filters[name] = self._limited(name, one)
        for name, test in self.tests.items():
            if name not in template_sizes.CHEAP_TESTS:
                self.tests[name] = self._measuring(cast("Callable[..., Any]", test))
        self.filters |= {_COUNTED: self._counted, _SPENT: self._spent, _SLICED: self._sliced}
        self.filters |= {_MEASURED: self._measured, _COMPARED: self._compared}
        self.globals |= GLOBALS
        del self.globals["lipsum"]  # makes text by the megabyte, in one call
        self._makers = [one for name, one in self.globals.items() if name != "strftime_now"]
        """Functions that only make a value of what they are given."""

    def chat_template(self, source: str) -> jinja2.Template:
        """The compiled template, with its loops and outputs counted. Jinja's errors, TooMuch, RecursionError."""
        if len(source) > LONGEST_SOURCE:
            raise TooMuch(f"it is longer than {LONGEST_SOURCE:,} characters")
        self.budget.refill()  # Jinja computes constant outputs now
        tree = _Counting().visit(self.parse(source))
        return self.from_string(tree.set_environment(self))

    # -- what is counted ---------------------------------------------------------------------------------

    def _counted(self, values: Iterable[Any], cost: int = 1) -> Iterator[Any]:
        for value in values:
            self.budget.spend(cost)
            yield value

    def _spent(self, cost: int) -> str:
        """Pays for what a body writes and makes each time it is entered."""
        self.budget.spend(cost)
        return ""

    def _measured(self, value: Any) -> Any:
        """A value that becomes text."""
        self.budget.spend_on_value(text_size(value))
        return value

    def _sliced(self, value: Any) -> Any:
        self.budget.spend_on_value(length(value))
        return value

    def _compared(self, value: Any) -> Any:
        """An operand of a comparison, or a key. Lists that hold one list many times are walked as often."""
        self.budget.spend(1 + size(value) // ELEMENT)
        return value

    def _measuring(self, test: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(test)
        def measuring(*operands: Any) -> Any:
            for one in operands:
                if not isinstance(one, Context | Environment | EvalContext):
                    self._compared(one)
            return test(*operands)

        return measuring

    def _limited(self, name: str, one: Callable[..., Any]) -> Callable[..., Any]:
        bound = template_sizes.filter_bound(name)

        own_count = int(hasattr(one, "jinja_pass_arg"))

        @functools.wraps(one)
        def limited(*given: Any, **named: Any) -> Any:
            own, value, options = given[:own_count], given[own_count], given[own_count + 1 :]
            if not isinstance(value, str) and isinstance(value, Iterator):
                value = [*self._counted(value, ELEMENT)]
            self._used_on_each(value, (*options, *named.values()))
            if name == "join":
                value, options, named = self._resolved(value, options, named)
            self.budget.spend_on_value(bound(value, *options, **named))
            result = one(*own, value, *options, **named)
            # What is computed later would be computed without being counted.
            return iter([*self._counted(result, ELEMENT)]) if isinstance(result, Iterator) else _checked(result)

        return limited

    def _used_on_each(self, value: Any, operands: Iterable[Any]) -> None:
        """Operands of a filter, such as an attribute's name, which it may hash or compare for each element."""
        times = len(value) if isinstance(value, Sized) else 1
        for one in operands:
            self.budget.spend(max(1, times) * (1 + size(one) // ELEMENT))

    def _resolved(
        self, value: Any, options: tuple[Any, ...], named: dict[str, Any]
    ) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
        """The operands of `join` with the attributes in place of the values that have them."""
        attribute = options[1] if len(options) > 1 else named.get("attribute")
        if attribute is None:
            return value, options, named
        self.budget.spend_on_value(template_sizes.filter_bound("map")(value, attribute))
        values = [*map(make_attrgetter(self, attribute), self._counted(value, ELEMENT))]
        return values, options[:1], {name: one for name, one in named.items() if name != "attribute"}

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805 - as in Jinja
        if isinstance(__obj, LoopContext):  # a recursive loop goes over these values
            args = (__self._counted(args[0]), *args[1:]) if args else args
        else:
            if len(args) > LONGEST_VALUE // ELEMENT:  # of a text that is unpacked
                raise too_long()
            args = tuple([*__self._counted(one, ELEMENT)] if isinstance(one, Iterator) else one for one in args)
            __self.budget.spend_on_value(_CALL + __self._call_bound(__obj, args, kwargs))
        return _checked(super().call(__context, __obj, *args, **kwargs))

    def _call_bound(self, called: Any, args: tuple[Any, ...], named: dict[str, Any]) -> int:
        """The most that a call makes, beside what a macro pays for itself."""
        named = {name: one for name, one in named.items() if name not in _OF_JINJA}
        method = getattr(called, "__wrapped__", called)  # the sandbox wraps `str.format`
        owner = getattr(method, "__self__", None)
        own = isinstance(called, Macro) or isinstance(owner, LoopContext | Cycler | Joiner | type(GLOBALS["dict"]))
        if own or any(called is one for one in self._makers):
            return size(args) + size(named)
        if owner is None:
            name = str(getattr(called, "__name__", "a function")).lstrip("_")
            return template_sizes.small_only(name)(*args, **named)
        bound = template_sizes.method_bound(owner, method.__name__)
        return bound(owner, *args, **named) * (_ESCAPED if isinstance(owner, Markup) else 1)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        if operator == "+" and type(left) is type(right) is str:  # most are
            self.budget.spend_on_value(len(left) + len(right))
            return left + right
        if isinstance(left, int | float) and isinstance(right, int | float):
            template_sizes.check_product(operator, left, right)
            amount = 1
        else:
            amount = _operator_bound(operator, left, right)
        self.budget.spend_on_value(
            amount * (_ESCAPED if isinstance(left, Markup) or isinstance(right, Markup) else 1)
        )
        result = left + right if operator == "+" else super().call_binop(context, operator, left, right)
        if isinstance(result, int):
            template_sizes.number_bits(result)
        return result


def _checked(result: Any) -> Any:
    """A result, which may be larger than was to be seen before by a small factor."""
    if isinstance(result, str | int) and length(result) > LONGEST_VALUE:
        raise too_long()
    return result


def _operator_bound(operator: str, left: Any, right: Any) -> int:
    if operator == "*":
        left, right = (right, left) if isinstance(left, int) else (left, right)
        return length(left) * abs(right) if isinstance(right, int) else 1
    if operator == "%" and isinstance(left, bytes):
        raise TooMuch("it formats bytes")
    if operator == "%" and isinstance(left, str):
        return template_sizes.percent_bound(left, right)
    return length(left) + length(right)


# -- the tree --------------------------------------------------------------------------------------------

_COUNTED, _SPENT, _SLICED, _MEASURED, _COMPARED = "_counted", "_spent", "_sliced", "_measured", "_compared"


class _Counting(NodeTransformer):
    """Puts the counting filters around whatever repeats, compares or makes text."""

    def visit_For(self, node: nodes.For) -> nodes.For:
        self._visit_body(node)
        node.iter = _filtered(node.iter, _COUNTED)
        return node

    def _visit_body(self, node: Any) -> Any:
        """A body that may be entered often pays for its literal text, its nodes, and the values written in it."""
        made = sum(1 for _ in node.find_all((nodes.List, nodes.Tuple, nodes.Dict)))
        text = sum(len(one.data) for one in node.find_all(nodes.TemplateData))
        cost = nodes.Const(1 + text + _LITERAL * made + sum(1 for _ in node.find_all(nodes.Node)))
        self.generic_visit(node)
        node.body = [nodes.ExprStmt(_filtered(cost.set_lineno(node.lineno), _SPENT), lineno=node.lineno), *node.body]
        return node

    visit_Macro = visit_CallBlock = visit_Block = _visit_body

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

    def visit_Concat(self, node: nodes.Concat) -> nodes.Concat:
        self.generic_visit(node)
        node.nodes = [_filtered(one, _MEASURED) for one in node.nodes]
        return node

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Getitem:
        self.generic_visit(node)
        if isinstance(node.arg, nodes.Slice):
            node.node = _filtered(node.node, _SLICED)
        elif not isinstance(node.arg, nodes.Const):
            node.arg = _filtered(node.arg, _COMPARED)
        return node

    def visit_Pair(self, node: nodes.Pair) -> nodes.Pair:
        self.generic_visit(node)
        if not isinstance(node.key, nodes.Const):
            node.key = _filtered(node.key, _COMPARED)
        return node

    def visit_Const(self, node: nodes.Const) -> nodes.Const:
        if isinstance(node.value, int):
            template_sizes.number_bits(node.value)
        return node

    def visit_ScopedEvalContextModifier(self, _: nodes.Node) -> nodes.Node:
        raise TooMuch("it uses autoescape, which chat templates do not have")


def _filtered(node: Any, name: str, *arguments: nodes.Expr) -> nodes.Filter:
    return nodes.Filter(node, name, list(arguments), [], None, None, lineno=node.lineno)
