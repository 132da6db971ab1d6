"""Texts in CSV that no spreadsheet takes for a formula."""

from __future__ import annotations

# Spreadsheets take a text for a formula that begins with one of these; an apostrophe before it says that it is a text.
FORMULAS = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def no_formula(text: str) -> str:
    """Return a text that no spreadsheet takes for a formula."""
    return f"'{text}" if text.startswith(FORMULAS) else text
