"""Rendering of templates to HTML; everything that is put into one is escaped."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from usage_service.web.pages.presentation import words
from usage_service.web.pages.presentation.assets import asset_path
from usage_service.web.pages.presentation.charts import chart, scaled, sparkline

TEMPLATES = Path(__file__).parents[1] / "templates"


def rendered(template: str, **context: object) -> str:
    """Return the template `<template>.html` rendered with the context; an unknown name is an error."""
    return _environment().get_template(f"{template}.html").render(context)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {"asset": asset_path, "chart": chart, "scaled": scaled, "sparkline": sparkline}
    environment.filters |= {
        "number": words.number,
        "share": words.share,
        "seconds": words.seconds,
        "size": words.size,
        "money": words.money,
        "moment": lambda value: words.unbroken(words.moment(value)),
        "day": lambda value: words.unbroken(words.day(value)),
        "unbroken": words.unbroken,
        "state": words.state,
        "plain": words.plain,
        "path_segment": words.path_segment,
        "breakable": words.breakable,
        "yes_or_no": words.yes_or_no,
        "as_cells": words.cells,
    }
    return environment
