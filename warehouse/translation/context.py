"""The allow-list of expressions that are translated, and the context in which each of them is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from sqlglot import exp

from warehouse.errors import invalid_query, refused
from warehouse.translation.conversions import coerce, no_signature
from warehouse.translation.scope import ElementSource, Scope
from warehouse.translation.syntax import check_parts, parse, position_of, spelled
from warehouse.translation.value import TableSource, Value

if TYPE_CHECKING:
    from warehouse.catalogue import Catalogue, Table
    from warehouse.schema import Type


@dataclass(frozen=True)
class Output:
    """A translated query and the columns of its result."""

    sql: exp.Expr
    columns: list[tuple[str, Type]]

    def types(self) -> dict[str, Type]:
        """Return the columns' types by name; raise invalidQuery when two columns share a name."""
        found = dict(self.columns)
        if len({name.lower() for name in found}) != len(self.columns):
            raise invalid_query(
                f"Duplicate column names in the result are not supported. Found duplicate(s): {self._repeated_names()}"
            )
        return found

    def _repeated_names(self) -> str:
        names = [name.lower() for name, _ in self.columns]
        return ", ".join(sorted({name for name in names if names.count(name) > 1}))

    def only_column(self, construct: str) -> Type:
        """Return the type of the only column; raise invalidQuery when there are more."""
        if len(self.columns) != 1:
            raise invalid_query(f"Subquery of {construct} must have only one output column")
        return self.columns[0][1]


@dataclass
class Statement:
    """The statement under translation: its text, its parameters by lower-case name, and what it is found to read.

    `translate_query` translates a SELECT or a UNION that can see the names of the scope around it.
    """

    text: str
    project: str
    catalogue: Catalogue
    parameters: dict[str, Type]
    translate_query: Callable[[Statement, exp.Expr, Scope | None], Output]
    scans: list[TableSource] = field(default_factory=list)
    elements: list[ElementSource] = field(default_factory=list)
    used_parameters: set[str] = field(default_factory=set)
    with_tables: dict[str, Output] = field(default_factory=dict)
    inlined: set[str] = field(default_factory=set)
    views: list[Table] = field(default_factory=list)

    def parameter(self, name: str) -> Type:
        """Return the declared type of a query parameter; raise invalidQuery when it has none."""
        kind = self.parameters.get(name.lower())
        if kind is None:
            raise invalid_query(f"Query parameter '{name}' not found at {position_of(f'@{name}', self.text)}")
        self.used_parameters.add(name.lower())
        return kind

    def query(self, node: exp.Expr, outer: Scope | None) -> Output:
        """Translate a query that can see the names of the scope around it; its WITH tables end with it."""
        while isinstance(node, exp.Subquery) and not node.alias:
            node = node.this
        visible = dict(self.with_tables)
        try:
            return self.translate_query(self, node, outer)
        finally:
            self.with_tables = visible

    def view(self, table: Table) -> Output:
        """Translate the query of a view, which sees nothing of the statement that reads it."""
        self.views.append(table)
        visible, self.with_tables = self.with_tables, {}
        try:
            return self.translate_query(self, parse(table.definition.view), None)
        finally:
            self.with_tables = visible


@dataclass(frozen=True)
class Context:
    """The context of an expression: the statement it belongs to, the names it can use, and whether aliases count."""

    statement: Statement
    scope: Scope = field(default_factory=Scope)
    after_select: bool = False

    def value(self, node: exp.Expr) -> Value:
        """Translate an expression and note what it reads; refuse it when it is not on the allow-list."""
        return self.unread(node).read()

    def unread(self, node: exp.Expr) -> Value:
        """Translate an expression of which the query may read a part only, without noting that it is read."""
        handler = HANDLERS.get(type(node))
        if handler is None:
            raise refused(spelled(node))
        check_parts(node, handler[1])
        return handler[0](self, node)

    def typed(self, node: exp.Expr, wanted: Type, construct: str) -> Value:
        """Translate an operand and coerce it to a type; raise invalidQuery when BigQuery would not."""
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
        """Return the context of a clause that also sees the aliases of this SELECT's list."""
        return replace(self, after_select=True)

    def subquery(self, node: exp.Expr) -> Output:
        """Translate a query that can see the names of this context's scope."""
        return self.statement.query(node, self.scope)


Handler = Callable[[Context, exp.Expr], Value]
HANDLERS: dict[type[exp.Expr], tuple[Handler, frozenset[str]]] = {}


def handles(*types: type[exp.Expr], parts: str = "this expression") -> Callable[[Handler], Handler]:
    """Put syntax on the allow-list; a construct with other parts than `parts`, names in a text, is refused."""
    allowed = frozenset(parts.split())

    def register(function: Handler) -> Handler:
        HANDLERS.update(dict.fromkeys(types, (function, allowed)))
        return function

    return register
