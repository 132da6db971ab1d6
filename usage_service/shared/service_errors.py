"""Errors that a usage service answers, as messages for the person who asked it."""

from __future__ import annotations

import json


def reason(status: int, body: bytes) -> str:
    """Return the detail of a problem (RFC 9457), and what to do about it."""
    try:
        problem = json.loads(body)
    except ValueError:
        problem = None
    said = isinstance(problem, dict) and (problem.get("detail") or problem.get("title"))
    if not said:
        said = f"this is not a usage service ({body[:100].decode(errors='replace')!r})"
    if status == 401:
        return f"{said}; give the token of the service by --token (in Python token=) or USAGE_SERVICE_TOKEN"
    return str(said)
