"""The allow-list: which syntax is translated, by which function, using which parts of it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from sqlglot import exp

from warehouse.errors import invalid_query, refused
from warehouse.translation.scope import Scope
from warehouse.translation.value import Value, coerce, no_signature

if TYPE_CHECKING:
    from collections.abc import Callable

    from warehouse.schema import Type
    from warehouse.translation.translator import Translator

    Handler = Callable[["Context", exp.Expr], Value]


HANDLERS: dict[type[exp.Expr], tuple[Handler, frozenset[str]]] = {}
NEVER_MEANINGFUL = {"comments", "type_"}


@dataclass(frozen=True)
class Context:
    """Where an expression stands: the translation it belongs to, and the names it can use."""

    translator: Translator
    scope: Scope = field(default_factory=Scope)
    after_select: bool = False

    def value(self, node: exp.Expr) -> Value:
        """Translate an expression and note what it reads; refused if it is not on the allow-list."""
        return self.unread(node).read()

    def unread(self, node: exp.Expr) -> Value:
        """Translate an expression whose parts, not all of it, are going to be read."""
        handler = HANDLERS.get(type(node))
        if handler is None:
            raise refused(spelled(node))
        check_parts(node, handler[1])
        return handler[0](self, node)

    def typed(self, node: exp.Expr, wanted: Type, construct: str) -> Value:
        """Translate an operand that must be, or be coerced to, a type."""
        value = self.value(node)
        found = coerce(value, wanted)
        if found is None:
            raise no_signature(construct, [value])
        return found

    def values(self, node: exp.Expr, *keys: str) -> list[Value]:
        """Translate the operands under those keys, lists of them flattened, absent ones left out."""
        parts = [node.args.get(key) for key in keys]
        flat = [item for part in parts for item in (part if isinstance(part, list) else [part])]
        return [self.value(item) for item in flat if isinstance(item, exp.Expr)]

    def later(self) -> Context:
        """The same place, but in a clause that also sees the SELECT list's aliases."""
        return replace(self, after_select=True)


def handles(*types: type[exp.Expr], parts: str = "this expression") -> Callable[[Handler], Handler]:
    """Put syntax on the allow-list; any other part than `parts` (a list of names) is refused."""
    allowed = frozenset(parts.split())

    def register(function: Handler) -> Handler:
        HANDLERS.update(dict.fromkeys(types, (function, allowed)))
        return function

    return register


def check_parts(node: exp.Expr, allowed: frozenset[str]) -> None:
    """Refuse syntax that has a part nobody would look at."""
    for key, part in node.args.items():
        if part and key not in allowed and key not in NEVER_MEANINGFUL:
            raise refused(f"{key.rstrip('_').upper().replace('_', ' ')} in {spelled(node)}")


def spelled(node: exp.Expr) -> str:
    """The name of a construct for an error message."""
    if isinstance(node, exp.Anonymous):
        return f"the function {str(node.this).upper()}"
    if isinstance(node, exp.Func):
        return f"the function {node.sql_name()}"
    return f"the construct {type(node).__name__.upper()}"


def function_name(node: exp.Expr) -> str:
    """How an error message calls a function or an operator."""
    return f"function {node.sql_name()}" if isinstance(node, exp.Func) else f"operator {node.key.upper()}"


def literal_text(node: exp.Expr | None, construct: str) -> str:
    """The text of a string literal; refused where it is computed."""
    if not isinstance(node, exp.RawString) and not (isinstance(node, exp.Literal) and node.is_string):
        raise refused(f"{construct} that is not a literal")
    return str(node.this)


def position(node: exp.Expr, text: str) -> str:
    """Where the construct begins in the query, as BigQuery writes it: [line:column]."""
    starts = [n.meta["start"] for n in node.walk() if "start" in n.meta]
    return _line_and_column(text[: min(starts)] if starts else "")


def position_of(word: str, text: str) -> str:
    """Where a word first stands in the query, whatever its case."""
    found = re.search(rf"{re.escape(word)}\b", text, re.IGNORECASE)
    return _line_and_column(text[: found.start()] if found else "")


def _line_and_column(before: str) -> str:
    return f"[{before.count(chr(10)) + 1}:{len(before) - before.rfind(chr(10))}]"


def unrecognized(name: str, node: exp.Expr, text: str) -> Exception:
    """BigQuery's error for a name that means nothing."""
    return invalid_query(f"Unrecognized name: {name} at {position(node, text)}")
