"""GoogleSQL queries into DuckDB's SQL: SELECT, WITH, joins, UNNEST and UNION."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlglot import exp

from warehouse.errors import invalid_query, refused
from warehouse.translation import aggregates, dates, functions, operators
from warehouse.translation.from_clause import FromClause
from warehouse.translation.functions import output_name, struct_value, typed_null
from warehouse.translation.partition import prune
from warehouse.translation.registry import Context, check_parts, position, position_of, spelled
from warehouse.translation.scope import DerivedSource, ElementSource, Scope, TableSource
from warehouse.translation.value import BOOL, Value, unify

if TYPE_CHECKING:
    from warehouse.catalogue import Catalogue
    from warehouse.schema import Type

HANDLER_MODULES = (aggregates, dates, functions, operators)
COSTLY = (exp.Group, exp.Distinct, exp.Window, exp.AggFunc, exp.Limit)
SELECT_PARTS = frozenset(
    [
        "kind",
        "expressions",
        "from_",
        "joins",
        "where",
        "group",
        "having",
        "qualify",
        "order",
        "limit",
        "offset",
        "distinct",
        "with_",
    ]
)


@dataclass(frozen=True)
class Output:
    """A translated query and the columns of its result."""

    sql: exp.Expr
    columns: list[tuple[str, Type]]

    def types(self) -> dict[str, Type]:
        """The columns by name; invalidQuery if two share one, as they cannot be told apart from outside."""
        found = dict(self.columns)
        if len({name.lower() for name in found}) != len(self.columns):
            raise invalid_query(
                f"Duplicate column names in the result are not supported. Found duplicate(s): {self._twice()}"
            )
        return found

    def _twice(self) -> str:
        names = [name.lower() for name, _ in self.columns]
        return ", ".join(sorted({name for name in names if names.count(name) > 1}))

    def only_column(self, construct: str) -> Type:
        """The type of the only column; invalidQuery if there are more."""
        if len(self.columns) != 1:
            raise invalid_query(f"Subquery of {construct} must have only one output column")
        return self.columns[0][1]


class Translator:
    """One translation: the parameters it uses and the tables it scans gather here."""

    def __init__(self, text: str, project: str, catalogue: Catalogue, parameters: dict[str, Type]) -> None:
        """`text` is the query, for positions; names of parameters are in lower case."""
        self.text = text
        self.project = project
        self.catalogue = catalogue
        self.scans: list[TableSource] = []
        self.elements: list[ElementSource] = []
        self.used: set[str] = set()
        self.with_tables: dict[str, Output] = {}
        self._parameters = parameters

    def parameter(self, name: str) -> Type:
        """The declared type of a query parameter."""
        kind = self._parameters.get(name.lower())
        if kind is None:
            raise invalid_query(f"Query parameter '{name}' not found at {position_of(f'@{name}', self.text)}")
        self.used.add(name.lower())
        return kind

    def subquery(self, node: exp.Expr, parent: Scope | None) -> Output:
        """Translate a query that can see the names of the one around it."""
        while isinstance(node, exp.Subquery) and not node.alias:
            node = node.this
        visible = dict(self.with_tables)
        try:
            return self._query(node, parent)
        finally:
            self.with_tables = visible

    def _query(self, node: exp.Expr, parent: Scope | None) -> Output:
        tables = self._with(node, parent)
        if isinstance(node, exp.Select):
            output = self._select(node, parent)
        elif isinstance(node, exp.Union):
            output = self._union(node, parent)
        else:
            raise refused(spelled(node))
        if tables:
            output.sql.set("with_", exp.With(expressions=tables))
        return output

    def _with(self, node: exp.Expr, parent: Scope | None) -> list[exp.Expr]:
        clause = node.args.get("with_")
        if clause is None:
            return []
        check_parts(clause, frozenset({"expressions"}))
        tables: list[exp.Expr] = []
        for item in clause.expressions:
            output = self.subquery(item.this, parent)
            self.with_tables[item.alias.lower()] = output
            alias = exp.TableAlias(this=exp.to_identifier(item.alias.lower(), quoted=True))
            # Else DuckDB copies what is used twice, and a whole table of pings takes longer to copy than to scan.
            inlined = False if item.this.find(*COSTLY) is None else None
            tables.append(exp.CTE(this=output.sql, alias=alias, materialized=inlined))
        return tables

    def _union(self, node: exp.Expr, parent: Scope | None) -> Output:
        check_parts(node, frozenset({"this", "expression", "distinct", "order", "limit", "offset", "with_"}))
        left, right = self.subquery(node.this, parent), self.subquery(node.expression, parent)
        if len(left.columns) != len(right.columns):
            raise invalid_query("Queries in UNION have mismatched column count")
        columns = []
        for (name, one), (_, other) in zip(left.columns, right.columns, strict=True):
            if one != other and "STRUCT" in (one.name, other.name):
                raise refused("a UNION of STRUCTs of different types")
            kind = one if one == other else unify([Value(exp.null(), one), Value(exp.null(), other)], "UNION")[1]
            columns.append((name, kind))
        sql = exp.Union(this=left.sql, expression=right.sql, distinct=bool(node.args.get("distinct")))
        context = Context(self, Scope(parent))
        self._tail(context, node, sql, [name for name, _ in columns])
        return Output(sql, columns)

    def _select(self, node: exp.Expr, parent: Scope | None) -> Output:
        check_parts(node, SELECT_PARTS)
        scope = Scope(parent)
        context = Context(self, scope)
        sql = exp.Select()
        FromClause(self, context).translate(node, sql)
        if where := node.args.get("where"):
            sql.set("where", exp.Where(this=context.typed(where.this, BOOL, "WHERE clause").sql))
            for source in scope.sources:
                if isinstance(source, TableSource):
                    prune(context, source, where.this)
        columns = self._select_list(context, node)
        scope.aliases = {name.lower(): value for name, value in columns}
        self._grouping(context, node, sql, [name for name, _ in columns])
        for key, kind in (("having", exp.Having), ("qualify", exp.Qualify)):
            if clause := node.args.get(key):
                sql.set(key, kind(this=context.later().typed(clause.this, BOOL, key.upper()).sql))
        self._distinct(node, sql)
        self._tail(context.later(), node, sql, [name for name, _ in columns])
        return self._output(node, sql, columns)

    def _output(self, node: exp.Expr, sql: exp.Expr, columns: list[tuple[str, Value]]) -> Output:
        if kind := node.args.get("kind"):
            if kind != "STRUCT":
                raise refused(f"SELECT AS {kind}")
            columns = [("struct", struct_value(dict(columns)))]
        typed = [(name, typed_null(value)) for name, value in columns]
        sql.set("expressions", [exp.alias_(value.sql, name, quoted=True, copy=False) for name, value in typed])
        return Output(sql, [(name, value.type) for name, value in typed])

    def _select_list(self, context: Context, node: exp.Expr) -> list[tuple[str, Value]]:
        columns: list[tuple[str, Value]] = []
        unnamed = 0
        for item in node.expressions:
            star = item.this if isinstance(item, exp.Column) and isinstance(item.this, exp.Star) else item
            if isinstance(star, exp.Star):
                columns += self._star(context, star, item)
                continue
            inner = item.this if isinstance(item, exp.Alias) else item
            name = output_name(item)
            if name is None:
                name, unnamed = f"f{unnamed}_", unnamed + 1
            columns.append((name, context.value(inner)))
        return columns

    def _star(self, context: Context, star: exp.Expr, item: exp.Expr) -> list[tuple[str, Value]]:
        check_parts(star, frozenset({"except_"}))
        left_out = {column.name.lower() for column in star.args.get("except_") or []}
        wanted = item.table.lower() if isinstance(item, exp.Column) else None
        sources = [s for s in context.scope.sources if wanted is None or s.alias.lower() == wanted]
        if not sources or context.scope.merged:
            raise refused("* without a FROM clause that says what it stands for, or after USING,")
        columns: list[tuple[str, Value]] = []
        for source in sources:
            if not isinstance(source, TableSource | DerivedSource | ElementSource) or not source.types:
                raise refused("* over an array of plain values")
            kept = [name for name in source.types if name.lower() not in left_out]
            columns += [(name, source.value(name).read()) for name in kept]
        return columns

    def _grouping(self, context: Context, node: exp.Expr, sql: exp.Expr, names: list[str]) -> None:
        group = node.args.get("group")
        if group is None:
            return
        check_parts(group, frozenset({"expressions"}))
        keys = [self._ordinal(context, item, names, of_group=True) for item in group.expressions]
        sql.set("group", exp.Group(expressions=keys))

    def _ordinal(self, context: Context, item: exp.Expr, names: list[str], *, of_group: bool) -> exp.Expr:
        """A GROUP BY or ORDER BY item: positions stay, aliases become positions, the rest is translated."""
        if isinstance(item, exp.Literal) and item.is_int:
            if not 1 <= int(item.this) <= len(names):
                raise invalid_query(f"Column position {item.this} is out of range")
            return item.copy()
        matches = [i for i, name in enumerate(names, 1) if _bare(item) == name.lower()]
        if matches:
            if len(matches) > 1:
                raise invalid_query(f"Column name {item.name} is ambiguous at {position(item, self.text)}")
            if of_group:
                context.scope.alias(item.name)
            return exp.Literal.number(matches[0])
        return context.value(item).sql

    def _distinct(self, node: exp.Expr, sql: exp.Expr) -> None:
        if distinct := node.args.get("distinct"):
            check_parts(distinct, frozenset())
            sql.set("distinct", exp.Distinct())

    def _tail(self, context: Context, node: exp.Expr, sql: exp.Expr, names: list[str]) -> None:
        if order := node.args.get("order"):
            items = [
                aggregates.ordered(self._ordinal(context, item.this, names, of_group=False), item)
                for item in order.expressions
            ]
            sql.set("order", exp.Order(expressions=items))
        for key, kind in (("limit", exp.Limit), ("offset", exp.Offset)):
            if clause := node.args.get(key):
                count = clause.expression
                if not isinstance(count, exp.Literal | exp.Parameter):
                    raise refused(f"a computed {key.upper()}")
                sql.set(key, kind(expression=context.value(count).sql))


def _bare(item: exp.Expr) -> str | None:
    return item.name.lower() if isinstance(item, exp.Column) and not item.table else None
