"""Rendering of templates to HTML; everything that is put into one is escaped."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache, partial
from pathlib import Path
from urllib.parse import parse_qsl, urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from usage_service.web.pages.presentation import words
from usage_service.web.pages.presentation.assets import asset_path
from usage_service.web.pages.presentation.charts import sparkline
from usage_service.web.pages.presentation.drawing import (
    bands_chart,
    counted_chart,
    has_log_axis,
    histogram_chart,
    shares_chart,
)
from usage_service.web.pages.presentation.overview import mark_name
from usage_service.web.pages.presentation.units import SHARE, measured, measured_cell

DRAWN = {made.__name__: made for made in (counted_chart, bands_chart, shares_chart, histogram_chart, has_log_axis)}
TEMPLATES = Path(__file__).parents[1] / "templates"


def rendered(template: str, **context: object) -> str:
    """Return the template `<template>.html` rendered with the context; an unknown name is an error."""
    return _environment().get_template(f"{template}.html").render(context)


def in_form(address: str, form: str) -> str:
    """Return the address of an answer in another form."""
    return f"{address}{'&' if '?' in address else '?'}format={form}"


def as_query(parameters: Mapping[str, str]) -> str:
    """Return parameters as a query string."""
    return f"?{urlencode(parameters)}"


def whole(address: str, most: int) -> str:
    """Return the address of as much of a list as one answer may have, from its beginning."""
    path, _, query = address.partition("?")
    kept = [(name, value) for name, value in parse_qsl(query) if name not in ("limit", "cursor")]
    return f"{path}?{urlencode([*kept, ('limit', most)])}"


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {"asset": asset_path, "mark_name": mark_name, "sparkline": sparkline} | DRAWN
    environment.filters |= {
        "number": words.number,
        "share": partial(measured, unit=SHARE),
        "seconds": partial(measured, unit="second"),
        "size": partial(measured, unit="byte"),
        "measured": measured_cell,
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
        "in_form": in_form,
        "whole": whole,
        "as_query": as_query,
    }
    return environment
