"""Times that options name."""

from __future__ import annotations

from datetime import datetime

import typer

from usage_service.windows import time_of


def read_time(text: str) -> datetime:
    """Return the time that an option names, a day or an instant; raise BadParameter, which says what it must be."""
    try:
        return time_of(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
