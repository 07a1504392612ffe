"""A sandbox for chat templates: what they reach, how long they work and how much they make."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from typing import Any, NoReturn, final

from jinja2 import TemplateError, nodes, pass_context
from jinja2.runtime import Context, LoopContext
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace
from jinja2.visitor import NodeTransformer

# A value may be this large, and everything that is made sixteen times so; a round or a call
# costs as much as so many characters, which gives a hundred thousand of them.
_LARGEST = 8 << 20
_LARGEST_BY_CHARACTER = 8
_NUM_LARGEST = 16
_STEP = 1024
_MOST_S = 30.0
_MOST_BITS = 10_000
_REFERENCE_BYTES = 8

# Filters that write nothing and look at no more than one value's own elements.
_LIGHT = (
    "abs attr count d default first float int items last length list map random reject "
    "rejectattr reverse round select selectattr"
)
# Those that make much of little, or search in quadratic time, and that no template needs.
_REFUSED = "batch center pprint slice striptags urlize wordwrap xmlattr"
_REFUSED_METHODS = (
    "center encode expandtabs from_bytes ljust maketrans rjust to_bytes translate zfill"
)
_MOST_INDENT = 8
_MOST_DIGITS = 100
_NESTED = re.compile(r"%[^%a-zA-Z]*\*|\{[^{}]*:[^{}]*\{")


@final
class _Budget:
    """What may still be done."""

    def __init__(self, num_characters: int) -> None:
        self.largest = _LARGEST + _LARGEST_BY_CHARACTER * num_characters
        self._left = _NUM_LARGEST * self.largest
        self._end = time.monotonic() + _MOST_S

    def spend(self, amount: int) -> None:
        """Take something off. Raises: TemplateError where there is too little."""
        self._left -= amount
        if amount > self.largest or self._left < 0 or time.monotonic() > self._end:
            raise TemplateError("it takes too much time or memory")


_budget: ContextVar[_Budget] = ContextVar("_budget")


@contextmanager
def bounded(num_characters: int) -> Iterator[None]:
    """What templates may do in the block: the more, the more characters a conversation has."""
    token = _budget.set(_Budget(num_characters))
    try:
        yield
    finally:
        _budget.reset(token)


@final
class Sandbox(ImmutableSandboxedEnvironment):
    """Compiles and renders templates, `bounded`.

    What is too much raises TemplateError, other faults of a template whatever Python raises.
    """

    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
        )
        self.finalize = self._shown
        for name in _REFUSED.split():
            del self.filters[name]
        self.filters |= {name: self._bounded(name, self.filters[name]) for name in self.filters}
        self.filters |= {"counted rounds": self._rounds, "counted value": self._made}
        del self.globals["lipsum"]
        self.globals["raise_exception"] = _raise

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        parsed = super()._parse(source, name, filename)
        _Counted().visit(parsed)
        return parsed

    def concat(self, pieces: Iterable[str]) -> str:
        """The text of a template, a macro or a block; jinja calls this for each."""
        found = []
        for piece in pieces:
            self._spend(len(piece))
            found.append(piece)
        return "".join(found)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """The result of an operator that may make more than it is given."""
        if operator == "+":
            self._spend(_size(left) + _size(right))
        elif operator == "%" and isinstance(left, str):
            self._spend(self._written("format", [left, right]))
        elif operator == "*":
            numbers = [one for one in (left, right) if isinstance(one, int)]
            if len(numbers) == 2:
                _check_bits(left.bit_length() + right.bit_length())
            elif numbers:
                self._spend((_size(left) + _size(right)) * max(numbers[0], 0))
        elif operator == "**" and isinstance(left, int) and isinstance(right, int):
            _check_bits(left.bit_length() * right)
        return super().call_binop(context, operator, left, right)

    def call(
        __self,  # noqa: N805 - the arguments' names belong to the template
        __context: Context,
        __obj: Any,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        """Call a function, a macro or a method."""
        __self._spend(_STEP)
        if isinstance(__obj, LoopContext):
            args = tuple(map(__self._rounds, args))
        # jinja wraps `format`; methods of str alone make more than they are given.
        method = getattr(__obj, "__wrapped__", __obj)
        owner = getattr(method, "__self__", None)
        if isinstance(owner, str):
            if method.__name__ == "join":
                args = tuple(list(one) for one in args)
                __self._spend(__self._written("join", [*args, owner]))
            else:
                values = [owner, *args, *kwargs.values()]
                __self._spend(__self._written(method.__name__, values))
        return __self._made(super().call(__context, __obj, *args, **kwargs))

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """Whether a template may have that attribute."""
        is_large = attr in _REFUSED_METHODS.split() and isinstance(obj, str | bytes | int)
        return not is_large and super().is_safe_attribute(obj, attr, value)

    def _spend(self, amount: int) -> None:
        _budget.get().spend(amount)

    def _rounds(self, values: Iterable[Any]) -> Iterator[Any]:
        for value in values:
            self._spend(_STEP)
            yield value

    def _made(self, value: Any) -> Any:
        self._spend(_size(value))
        return value

    @pass_context
    def _shown(self, context: Context, value: Any) -> Any:
        del context
        if not isinstance(value, str):
            self._spend(self._length(value))
        return value

    def _bounded(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """A filter that counts what it makes, ahead where that may be more than it is given."""
        place = 1 if hasattr(function, "jinja_pass_arg") else 0

        @wraps(function)
        def bounded(*args: Any, **kwargs: Any) -> Any:
            self._spend(_STEP)
            if name == "join":
                args = (*args[:place], list(args[place]), *args[place + 1 :])
            if name not in _LIGHT.split():
                self._spend(self._written(name, [*args[place:], *kwargs.values()]))
            if name == "round":
                _check_numbers([*args[place + 1 :], *kwargs.values()], _MOST_DIGITS)
            return self._made(function(*args, **kwargs))

        return bounded

    def _written(self, name: str, values: list[Any]) -> int:
        """No less than the characters that such a filter or method of str writes."""
        total = sum(map(self._length, values))
        if name == "replace" and len(values) > 2:
            text, old, new = map(str, values[:3])
            return total + (text.count(old) if old else len(text) + 1) * len(new)
        if name == "join" and len(values) > 1:
            return total + len(values[0]) * self._length(values[1])
        if name == "indent":
            _check_numbers(values, _MOST_INDENT)
            width = max((len(one) for one in values[1:] if isinstance(one, str)), default=0)
            return total + (str(values[0]).count("\n") + 1) * max(width, _MOST_INDENT)
        if name == "tojson":
            _check_numbers(values[1:], _MOST_INDENT)
        if name in ("format", "format_map"):
            text = str(values[0])
            if _NESTED.search(text):
                raise TemplateError("a width that is not written out")
            widths = sum(map(int, re.findall(r"\d+", text)))
            return total + widths + (text.count("%") + text.count("{")) * total
        return total

    def _length(self, value: Any) -> int:
        """About the characters that `value` has as text, no less than its depth asks for."""
        total, left = 0, [(value, 1)]
        most = _budget.get().largest
        while left and total <= most:
            one, depth = left.pop()
            total += _REFERENCE_BYTES * depth
            if isinstance(one, str | bytes):
                total += len(one)
            elif isinstance(one, Mapping):
                left += [(part, depth + 1) for item in one.items() for part in item]
            elif isinstance(one, Namespace):
                left.append((one._Namespace__attrs, depth + 1))
            elif isinstance(one, Collection):
                left += [(part, depth + 1) for part in one]
        return total


class _Counted(NodeTransformer):
    """Passes what jinja itself does not hand to the sandbox through filters."""

    def visit_For(self, node: nodes.For) -> nodes.For:  # noqa: N802 - jinja calls it so
        self.generic_visit(node)
        assert isinstance(node.iter, nodes.Expr)
        node.iter = _filtered(node.iter, "counted rounds")
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Filter:  # noqa: N802
        self.generic_visit(node)
        parts = nodes.List(node.nodes, lineno=node.lineno, environment=node.environment)
        return _filtered(parts, "join")

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Expr:  # noqa: N802
        self.generic_visit(node)
        return _filtered(node, "counted value") if isinstance(node.arg, nodes.Slice) else node


def _filtered(node: nodes.Expr, name: str) -> nodes.Filter:
    about = {"lineno": node.lineno, "environment": node.environment}
    return nodes.Filter(node, name, [], [], None, None, **about)


def _size(value: Any) -> int:
    """What a value takes by itself, in characters."""
    if isinstance(value, str | bytes):
        return len(value)
    is_collection = isinstance(value, list | tuple | set | dict)
    return _REFERENCE_BYTES * len(value) if is_collection else 0


def _check_bits(num_bits: int) -> None:
    if num_bits > _MOST_BITS:
        raise TemplateError("a number becomes too large")


def _check_numbers(values: list[Any], most: int) -> None:
    if any(isinstance(one, int) and abs(one) > most for one in values):
        raise TemplateError(f"a number is larger than {most}")


def _raise(message: str) -> NoReturn:
    raise TemplateError(message)
