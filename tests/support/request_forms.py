"""The forms in which events may be posted."""

from __future__ import annotations

import json
from collections.abc import Sequence

JSON = {"Content-Type": "application/json"}
LINES = {"Content-Type": "application/x-ndjson"}
FORMS = ["array", "envelope", "lines", "bare"]


def in_form(form: str, items: Sequence[object], **envelope: object) -> tuple[bytes, dict[str, str]]:
    """Return a body and its headers; several events have no bare form and go as an array."""
    if form == "bare" and len(items) == 1:
        return json.dumps(items[0]).encode(), JSON
    if form == "lines":
        return "\n".join(json.dumps(item) for item in items).encode(), LINES
    if form == "envelope":
        return json.dumps({"events": items, **envelope}).encode(), JSON
    return json.dumps(items).encode(), JSON
