"""The FROM clause: tables, sub-queries, joins and unnested arrays."""

from __future__ import annotations

from sqlglot import exp

from warehouse.errors import invalid_query, refused
from warehouse.translation.context import Context, Output
from warehouse.translation.scope import DerivedSource, ElementSource, OffsetSource
from warehouse.translation.syntax import check_parts, position, spelled
from warehouse.translation.value import BOOL, INT64, TableSource, Value, call

KINDS = {"", "CROSS", "INNER", "OUTER"}
SIDES = {"", "LEFT", "RIGHT", "FULL"}


class FromClause:
    """One FROM clause; translating it adds its sources to the context's scope, from left to right."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._statement = context.statement

    def translate(self, node: exp.Expr, sql: exp.Expr) -> None:
        """Set the FROM and JOIN parts of `sql` from those of the BigQuery SELECT `node`."""
        first, joins = node.args.get("from_"), node.args.get("joins") or []
        if first is None:
            return
        item = self.item(first.this)
        while joins and _is_widening(first, joins[0]):
            item = self._widened(item, joins[0].this)
            joins = joins[1:]
        sql.set("from_", exp.From(this=item))
        sql.set("joins", [self._join(join) for join in joins])

    def _widened(self, item: exp.Expr, node: exp.Expr) -> exp.Expr:
        """Return the only table before a CROSS JOIN UNNEST as a sub-query that has the elements as a column too.

        Of a lateral join with conditions on the elements, DuckDB would make a join by the value of the whole array.
        """
        owner = self._context.scope.sources[0].alias
        elements = self._unnest(node, owner).this.expressions
        star = exp.Column(this=exp.Star(), table=exp.to_identifier(owner, quoted=True))
        select = exp.Select(expressions=[star, *elements], from_=exp.From(this=item))
        return exp.Subquery(this=select, alias=exp.TableAlias(this=exp.to_identifier(owner, quoted=True)))

    def _join(self, join: exp.Expr) -> exp.Expr:
        check_parts(join, frozenset({"this", "side", "kind", "on", "using"}))
        kind, side = str(join.args.get("kind") or ""), str(join.args.get("side") or "")
        if kind not in KINDS or side not in SIDES:
            raise refused(f"{side} {kind} JOIN")
        item = self.item(join.this)
        lateral = isinstance(join.this, exp.Unnest)
        if lateral:
            item = exp.Lateral(this=exp.Subquery(this=item.this), alias=item.args["alias"])
        translated = exp.Join(this=item, side=side or None, kind=kind or None)
        self._condition(join, translated, lateral=lateral)
        return translated

    def _condition(self, join: exp.Expr, translated: exp.Expr, *, lateral: bool) -> None:
        if using := join.args.get("using"):
            translated.set("using", [self._using(name) for name in using])
        elif on := join.args.get("on"):
            translated.set("on", self._context.typed(on, BOOL, "JOIN ON").sql)
        elif lateral and join.args.get("side"):
            translated.set("on", exp.true())
        elif not join.args.get("side") and join.args.get("kind") != "INNER":
            translated.set("kind", "CROSS")
        else:
            raise invalid_query("JOIN needs an ON or a USING clause")

    def _using(self, name: exp.Expr) -> exp.Expr:
        self._context.scope.merged.add(name.name.lower())
        for source in self._context.scope.sources:
            stored = next((key for key in source.types if key.lower() == name.name.lower()), None)
            if stored:
                source.value(stored).read()
        return exp.to_identifier(name.name, quoted=True)

    def item(self, node: exp.Expr) -> exp.Expr:
        """Translate one item, and add it to the sources of the scope."""
        if isinstance(node, exp.Table):
            return self._table(node)
        if isinstance(node, exp.Subquery):
            return self._subquery(node)
        if isinstance(node, exp.Unnest):
            return self._unnest(node)
        raise refused(f"{spelled(node)} in FROM")

    def _table(self, node: exp.Table) -> exp.Expr:
        check_parts(node, frozenset({"this", "db", "catalog", "alias"}))
        if not all(isinstance(part, exp.Identifier) for part in node.parts):
            raise refused(f"{spelled(node.this)} in FROM")
        names = [part.name for part in node.parts]
        full = ".".join(names).split(".")
        alias = node.alias or full[-1]
        known = self._statement.with_tables.get(full[0].lower())
        if len(full) == 1 and known:
            self._context.scope.add(DerivedSource(alias, known.types()))
            return aliased(exp.to_table(full[0].lower(), quoted=True), alias)
        return self._stored(full, alias, node)

    def _stored(self, full: list[str], alias: str, node: exp.Expr) -> exp.Expr:
        if len(full) == 1:
            where = position(node, self._statement.text)
            raise invalid_query(f'Table "{full[0]}" must be qualified with a dataset (e.g. dataset.table) at {where}')
        project = full[-3] if len(full) == 3 else self._statement.project
        if len(full) > 3 or self._context.scope.range_variable(full[0]):
            raise refused(f"{'.'.join(full)} in FROM (write UNNEST for an array)")
        table = self._statement.catalogue.find(project, full[-2], full[-1])
        if table.definition.view:
            return self._derived(self._statement.view(table), alias)
        source = TableSource(alias, table, f"bq_scan_{len(self._statement.scans)}")
        self._statement.scans.append(source)
        self._context.scope.add(source)
        return aliased(exp.to_table(source.marker), alias)

    def _subquery(self, node: exp.Expr) -> exp.Expr:
        check_parts(node, frozenset({"this", "alias"}))
        output = self._statement.query(node.this, self._context.scope.parent)
        return self._derived(output, node.alias or f"bq_subquery_{len(self._context.scope.sources)}")

    def _derived(self, output: Output, alias: str) -> exp.Expr:
        self._context.scope.add(DerivedSource(alias, output.types()))
        return exp.Subquery(this=output.sql, alias=exp.TableAlias(this=exp.to_identifier(alias, quoted=True)))

    def _unnest(self, node: exp.Expr, owner: str | None = None) -> exp.Expr:
        """Return the elements as a table, or as columns for the sub-query that `owner` becomes."""
        check_parts(node, frozenset({"expressions", "alias", "offset", "explode_array"}))
        columns = node.args["alias"].columns if node.args.get("alias") else []
        alias = columns[0].name if columns else f"bq_unnest_{len(self._context.scope.sources)}"
        array = self._context.unread(node.expressions[0])
        if not array.type.repeated:
            raise invalid_query(f"Values referenced in UNNEST must be arrays. UNNEST contains {array.type.spelled()}")
        if array.origin and array.origin.flat:
            array.origin.source.project(array.origin.path)
        # The owner's own columns cannot have this name.
        column = f"bq_element_{len(self._statement.elements)}" if owner else alias
        source = ElementSource(alias, array, exp.column(column, table=owner or alias, quoted=True))
        self._statement.elements.append(source)
        self._context.scope.add(source)
        items = [exp.alias_(call("unnest", array.sql), column, quoted=True)]
        if offset := node.args.get("offset"):
            name = offset.name if isinstance(offset, exp.Expr) else "offset"
            place = exp.column(f"{column}_offset" if owner else name, table=owner or alias, quoted=True)
            self._context.scope.add(OffsetSource(name, Value(place, INT64)))
            items.append(_offset(place.name, array.sql))
        return exp.Subquery(
            this=exp.Select(expressions=items),
            alias=exp.TableAlias(this=exp.to_identifier(alias, quoted=True)),
        )


def _offset(name: str, array: exp.Expr) -> exp.Expr:
    # Positions count from 0 in BigQuery and from 1 in DuckDB.
    ordinal = call("generate_subscripts", array.copy(), exp.Literal.number(1))
    return exp.alias_(exp.Sub(this=ordinal, expression=exp.Literal.number(1)), name, quoted=True)


def _is_widening(first: exp.Expr, join: exp.Expr) -> bool:
    """Return whether the join is a CROSS JOIN UNNEST after something other than an UNNEST."""
    plain = not any(join.args.get(part) for part in ("side", "on", "using")) and join.args.get("kind") != "INNER"
    return plain and isinstance(join.this, exp.Unnest) and not isinstance(first.this, exp.Unnest)


def aliased(table: exp.Expr, alias: str) -> exp.Expr:
    """Return an item of FROM with its alias."""
    table.set("alias", exp.TableAlias(this=exp.to_identifier(alias, quoted=True)))
    return table
