"""Templates to HTML. Everything that is put into one is escaped."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from usage_service.web.pages.presentation import words
from usage_service.web.pages.presentation.assets import asset_path
from usage_service.web.pages.presentation.charts import chart, scaled, sparkline

TEMPLATES = Path(__file__).parents[1] / "templates"


def rendered(template: str, **context: object) -> str:
    """The template `<template>.html` with the context; a name that is not there is an error."""
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
        "moment": words.moment,
        "day": words.day,
        "state": words.state,
        "plain": words.plain,
        "place": words.place,
        "breakable": words.breakable,
        "said": words.said,
        "as_cells": words.cells,
    }
    return environment
