"""Statements of BigQuery: a `.sql` file with its names filled in, and its values as query parameters.

Only names that the code knows or that match a strict pattern are put into the text, at `{{name}}`.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from google.cloud.bigquery import ArrayQueryParameter, ScalarQueryParameter

from usage_service.shared.bigquery.errors import PermanentWorkError

Parameter = ScalarQueryParameter | ArrayQueryParameter

NAME = re.compile(r"[a-z][a-z0-9_]{0,254}", re.ASCII)
PROJECT = re.compile(r"[a-z][a-z0-9-]{4,28}[a-z0-9]", re.ASCII)


@dataclass(frozen=True)
class Statement:
    """A query to run: its file's name, its text and its parameters."""

    name: str
    sql: str
    parameters: tuple[Parameter, ...]

    def digest(self) -> str:
        """Return twelve hexadecimal digits of the SHA-256 of the text and the parameters."""
        content = json.dumps([self.sql, [parameter.to_api_repr() for parameter in self.parameters]])
        return hashlib.sha256(content.encode()).hexdigest()[:12]


def parameters(values: Mapping[str, tuple[str, Any]]) -> tuple[Parameter, ...]:
    """Return scalar parameters from their types and values by name."""
    return tuple(ScalarQueryParameter(name, kind, value) for name, (kind, value) in values.items())


def identifier(text: str) -> str:
    """Return the text; raise PermanentWorkError when it cannot be the name of a dataset, table or column."""
    if not NAME.fullmatch(text):
        raise PermanentWorkError("invalidName", f"{text!r} cannot be the name of a dataset, table or column")
    return text


def table_name(project: str, dataset: str, name: str) -> str:
    """Return the full name of a table; raise PermanentWorkError for parts that cannot be names."""
    if not PROJECT.fullmatch(project):
        raise PermanentWorkError("invalidName", f"{project!r} cannot be the name of a project")
    return f"{project}.{identifier(dataset)}.{identifier(name)}"
