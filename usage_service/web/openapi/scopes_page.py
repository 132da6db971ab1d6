"""Reference of scopes: which routes each opens, made from the routes (docs/scopes.md)."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from typing import get_args

from usage_service.web.access import Scope
from usage_service.web.openapi.operations import Route

HEAD = """# Scopes

Made from the routes by `usage-service reference scopes`; a test keeps it true. A token opens the routes of the scopes
that it was made with (`usage-service token create NAME --scope SCOPE`), and no other.
[Tokens and limits](guides/access.md) says more.
"""


def scopes_page(routes: Sequence[Route]) -> str:
    """Write the page in Markdown: a section for each scope, with its routes."""
    return "\n".join([HEAD, *(line for scope in get_args(Scope) for line in _section(scope, routes))])


def _section(scope: Scope, routes: Sequence[Route]) -> Iterator[str]:
    yield from ("## No token" if scope == "open" else f"## {scope}", "", "| route | what it does |", "|---|---|")
    for route in routes:
        if route.scope == scope:
            summary = inspect.cleandoc(route.handler.__doc__ or "").partition("\n")[0]
            yield f"| `{route.method} {route.path}` | {summary} |"
    yield ""
