"""Tests run beside each other in one cluster, each in a database of its own: what one asks is not about another's."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
OF_THE_CLUSTER = ("pg_stat_activity", "pg_locks")
OF_ITS_OWN = ("datname", "usename")
ELSEWHERE = {  # and why
    "postgres_owner.py": "its cluster is its own",
    "test_a_file_of_statements_is_confined.py": "the statement is refused",
    Path(__file__).name: "it is an example",
}


def of_the_cluster(source: str) -> Iterator[str]:
    """Return the strings that ask for sessions, or their locks, of all databases."""
    if not any(name in source for name in OF_THE_CLUSTER):
        return
    for node in ast.walk(ast.parse(source)):
        text = node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""
        asks = any(f"FROM {name}" in text for name in OF_THE_CLUSTER)
        if asks and not any(name in text for name in OF_ITS_OWN):
            yield text


@pytest.mark.parametrize("path", sorted(TESTS.rglob("*.py")), ids=lambda path: path.stem)
def test_who_asks_for_sessions_says_of_which_database(path: Path) -> None:
    if path.name not in ELSEWHERE:
        assert list(of_the_cluster(path.read_text("utf-8"))) == []


def test_one_that_does_not_is_found() -> None:
    everybodys = "SELECT FROM pg_locks WHERE NOT granted"
    assert list(of_the_cluster(f'X = "{everybodys}"')) == [everybodys]
    assert list(of_the_cluster('X = "SELECT FROM pg_stat_activity WHERE datname = current_database()"')) == []
