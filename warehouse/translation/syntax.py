"""GoogleSQL's syntax tree: which parts of a construct are used, and what an error message calls it and its place."""

from __future__ import annotations

import re

import sqlglot
from sqlglot import exp
from sqlglot.dialects.bigquery import BigQuery
from sqlglot.errors import ParseError, TokenError

from warehouse.errors import BigQueryError, invalid_query, refused

NEVER_MEANINGFUL = {"comments", "type_"}
MAX_QUERY_CHARACTERS = 1_000_000


def check_parts(node: exp.Expr, allowed: frozenset[str]) -> None:
    """Refuse a construct that has a part which its translation would ignore."""
    for key, part in node.args.items():
        if part and key not in allowed and key not in NEVER_MEANINGFUL:
            raise refused(f"{key.rstrip('_').upper().replace('_', ' ')} in {spelled(node)}")


def spelled(node: exp.Expr) -> str:
    """Return the name of a construct for the message that refuses it."""
    if isinstance(node, exp.Anonymous):
        return f"the function {str(node.this).upper()}"
    if isinstance(node, exp.Func):
        return f"the function {node.sql_name()}"
    return f"the construct {type(node).__name__.upper()}"


def function_name(node: exp.Expr) -> str:
    """Return the name of a function or an operator as BigQuery's error messages have it."""
    return f"function {node.sql_name()}" if isinstance(node, exp.Func) else f"operator {node.key.upper()}"


def literal_text(node: exp.Expr | None, construct: str) -> str:
    """Return the text of a string literal; refuse any other expression."""
    if not isinstance(node, exp.RawString) and not (isinstance(node, exp.Literal) and node.is_string):
        raise refused(f"{construct} that is not a literal")
    return str(node.this)


def position(node: exp.Expr, text: str) -> str:
    """Return the place in the query where the construct begins, as BigQuery writes it: [line:column]."""
    starts = [n.meta["start"] for n in node.walk() if "start" in n.meta]
    return _line_and_column(text[: min(starts)] if starts else "")


def position_of(word: str, text: str) -> str:
    """Return the place in the query where a word first stands, in any case of letters: [line:column]."""
    found = re.search(rf"{re.escape(word)}\b", text, re.IGNORECASE)
    return _line_and_column(text[: found.start()] if found else "")


def _line_and_column(before: str) -> str:
    return f"[{before.count(chr(10)) + 1}:{len(before) - before.rfind(chr(10))}]"


def unrecognized(name: str, node: exp.Expr, text: str) -> Exception:
    """Return BigQuery's error for a name that means nothing."""
    return invalid_query(f"Unrecognized name: {name} at {position(node, text)}")


def parse(text: str) -> exp.Expr:
    """Return the syntax tree of a single SELECT or statement of DML; raise BigQueryError for anything else."""
    if len(text) > MAX_QUERY_CHARACTERS:
        raise invalid_query(f"The query is too large, its maximum length is {MAX_QUERY_CHARACTERS} characters")
    try:
        statements = [s for s in sqlglot.parse(text, read=BigQuery) if s is not None]
    except ParseError as error:
        raise _syntax_error(error) from None
    except TokenError as error:
        raise invalid_query(f"Syntax error: {error}") from None
    if not statements:
        raise invalid_query("Syntax error: Unexpected end of script at [1:1]")
    if len(statements) > 1:
        raise refused("a script of several statements")
    if isinstance(statements[0], exp.Alias | exp.Column | exp.Condition):
        raise invalid_query(f"Syntax error: Unexpected {statements[0].sql(BigQuery)} at [1:1]")
    if not isinstance(statements[0], exp.Query | exp.Insert | exp.Update | exp.Delete | exp.Merge):
        raise refused(f"the statement {statements[0].key.upper()}")
    return statements[0]


def _syntax_error(error: ParseError) -> BigQueryError:
    details = error.errors[0] if error.errors else {}
    where = f"[{details.get('line', 1)}:{details.get('col', 1)}]"
    found = re.sub(r"\s+", " ", str(details.get("highlight") or "")).strip()
    what = f'Unexpected "{found}"' if found else str(details.get("description", "Unexpected token"))
    return invalid_query(f"Syntax error: {what} at {where}")
