"""SQL stands in `.sql` files, where each statement has a name and a reason: no string of Python is a statement.

`warehouse/translation` is left out: SQL is what it makes.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import builder
import usage_service
import warehouse

PACKAGES = [Path(str(package.__file__)).parent for package in (usage_service, builder, warehouse)]
MODULES = [path for package in PACKAGES for path in package.rglob("*.py") if "translation" not in path.parts]
STATEMENT = re.compile(
    r"""\s*(?:
        (?:SELECT|INSERT\s+INTO|UPDATE|DELETE\s+FROM|CREATE|ALTER|DROP|TRUNCATE|WITH|COPY|LOCK|MERGE|GRANT|REVOKE|VACUUM
        |SET\s+LOCAL|SET\s+SESSION|LISTEN|NOTIFY)\s+[\w"'$(*]
        |(?:BEGIN|COMMIT|ROLLBACK)\b\s*(?:;|$)
    )""",
    re.VERBOSE,
)
# What has none of these words has no statement and is not parsed, which takes a hundred times as long as to look.
WORD = re.compile(
    "SELECT|INSERT|UPDATE|DELETE|CREATE|ALTER|DROP|TRUNCATE|WITH|COPY|LOCK|MERGE|GRANT|REVOKE|VACUUM|SET|"
    "LISTEN|NOTIFY|BEGIN|COMMIT|ROLLBACK"
)


def statements(source: str) -> Iterator[str]:
    """Return the strings of a module that begin like a statement of SQL, each after its line."""
    if not WORD.search(source):
        return
    module = ast.parse(source)
    formatted = [node for node in ast.walk(module) if isinstance(node, ast.JoinedStr)]
    texts = {id(node): (node.lineno, "".join(map(_part, node.values))) for node in formatted}
    parts = {id(part) for node in formatted for part in node.values}
    for node in ast.walk(module):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in parts:
            texts[id(node)] = (node.lineno, node.value)
    for docstring in filter(None, map(_docstring, ast.walk(module))):
        texts.pop(id(docstring), None)
    yield from (f"{line}: {text.strip()[:60]}" for line, text in texts.values() if STATEMENT.match(text))


def _part(part: ast.expr) -> str:
    return str(part.value) if isinstance(part, ast.Constant) else "x"


def _docstring(node: ast.AST) -> ast.expr | None:
    if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        return None
    first = node.body[0] if node.body else None
    return first.value if isinstance(first, ast.Expr) else None


@pytest.mark.parametrize(
    "text",
    [
        "SELECT 1",
        "\n    SELECT a\n    FROM b",
        "INSERT INTO t (a) VALUES ($1)",
        "UPDATE t SET a = 1",
        "DELETE FROM t",
        "CREATE TABLE t ()",
        "ALTER ROLE r SET a = b",
        "DROP TABLE t",
        "SET LOCAL lock_timeout = '2s'; SELECT 1",
        "LISTEN events_appended",
        "NOTIFY events_appended",
        "BEGIN; SELECT 1",
        "COMMIT",
        "WITH a AS (SELECT 1) SELECT * FROM a",
        "COPY (SELECT 1) TO STDOUT",
        "LOCK TABLE t",
    ],
)
def test_a_statement_is_recognised(text: str) -> None:
    assert list(statements(f"run({text!r})"))
    assert list(statements(f"run(f{text!r})"))


def test_a_statement_that_begins_with_a_value_is_recognised() -> None:
    assert list(statements("run(f'SELECT {column} FROM t')"))


@pytest.mark.parametrize(
    "source",
    ["'COPY '", "'DELETE'", "'LISTEN_DATABASE_URL must be set'", "'select one'", "f'to {x} SELECT 1'", '"SELECT 1"'],
)
def test_other_texts_are_no_statements(source: str) -> None:
    assert not list(statements(source))


def test_no_module_holds_a_statement() -> None:
    found = {str(path): list(statements(path.read_text("utf-8"))) for path in MODULES}
    assert len(found) > 200
    assert not {path: texts for path, texts in found.items() if texts}
