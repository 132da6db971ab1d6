"""Reference of the API for people, made from the OpenAPI document: in Markdown (docs/api.md) and as an HTML page."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from jinja2 import Environment, FileSystemLoader, select_autoescape
from markupsafe import Markup, escape

from usage_service.shared.schema_words import JsonObject, schema_words
from usage_service.web.openapi.calls import Call
from usage_service.web.openapi.responses import GENERAL

TEMPLATES = Path(__file__).parent / "templates"
CODE, REFERENCE = re.compile(r"`([^`]*)`"), re.compile(r"`([A-Z]\w*)`")


class Row(NamedTuple):
    """Row of a table: a name, and the cells after it."""

    name: str
    cells: tuple[str, ...]


class Section(NamedTuple):
    """Route as it is shown; `general` are statuses of problems that are explained once for all routes."""

    title: str
    anchor: str
    tag: str
    scope: str
    paragraphs: list[str]
    parameters: list[Row]
    body: list[Row]
    responses: list[Row]
    general: str
    curl: str
    python: str


class TypeShown(NamedTuple):
    """Type as it is shown, with its fields."""

    name: str
    description: str
    fields: list[Row]


def markdown_page(document: JsonObject) -> str:
    """Return the reference in Markdown."""
    return _environment().get_template("api.md").render(_shown(document))


def html_page(document: JsonObject) -> str:
    """Return the reference as an HTML page, to be sent with the policy of `page_policy`."""
    return _environment().get_template("api.html").render(_shown(document), style=Markup(_style()))


def page_policy() -> str:
    """Return the Content-Security-Policy of the HTML page: it allows the page's own style, by its hash, and no more."""
    digest = base64.b64encode(hashlib.sha256(_style().encode()).digest()).decode()
    nothing = "; ".join(f"{what} 'none'" for what in ("default-src", "base-uri", "form-action", "frame-ancestors"))
    return f"{nothing}; img-src data:; style-src 'sha256-{digest}'"


def _style() -> str:
    return (TEMPLATES / "api.css").read_text("utf-8")


def _environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=select_autoescape(["html"]),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.filters["marked"] = _marked
    return made


def _marked(text: str) -> Markup:
    """Return a text as HTML, with `code` as code and `Type` as a link to the type."""
    linked = REFERENCE.sub(r'<a href="#type-\1"><code>\1</code></a>', str(escape(text)))
    return Markup(CODE.sub(r"<code>\1</code>", linked))


def _shown(document: JsonObject) -> JsonObject:
    sections = list(_sections(document))
    return {
        "info": document["info"],
        "tags": {tag["name"]: [one for one in sections if one.tag == tag["name"]] for tag in document["tags"]},
        "general": [Row(str(status), (means,)) for status, means in GENERAL.items()],
        "types": [_type(name, schema) for name, schema in sorted(document["components"]["schemas"].items())],
    }


def _sections(document: JsonObject) -> Iterator[Section]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            responses, call = operation["responses"].items(), Call(document, method, path, operation)
            own = [(status, one) for status, one in responses if GENERAL.get(int(status)) != one["description"]]
            yield Section(
                f"{method.upper()} {path}",
                operation["operationId"],
                operation["tags"][0],
                operation["x-scope"],
                [operation["summary"], *filter(None, operation.get("description", "").split("\n\n"))],
                [_parameter(document, one) for one in operation["parameters"]],
                _contents(operation.get("requestBody", {}).get("content", {})),
                [_response(status, one) for status, one in own],
                ", ".join(status for status, one in responses if (status, one) not in own),
                call.curl(),
                call.python(),
            )


def _default_of(schema: JsonObject) -> str:
    """Return the default of a parameter in words; empty where it has none."""
    default = schema.get("default")
    if isinstance(default, list | tuple):
        return ", ".join(map(str, default))
    return "" if default is None else str(default).lower()


def _parameter(document: JsonObject, spec: JsonObject) -> Row:
    if "$ref" in spec:
        spec = document["components"]["parameters"][spec["$ref"].rpartition("/")[2]]
    schema = spec["schema"]
    default = _default_of(schema)
    needed = "required" if spec["required"] else default and f"`{default}`"
    return Row(spec["name"], (spec["in"], schema_words(schema), needed, spec.get("description", "")))


def _contents(contents: JsonObject) -> list[Row]:
    return [Row(media_type, (schema_words(content["schema"]),)) for media_type, content in contents.items()]


def _response(status: str, spec: JsonObject) -> Row:
    contents = "; ".join(f"{row.name}: {row.cells[0]}" for row in _contents(spec.get("content", {})))
    return Row(status, (spec["description"], contents, ", ".join(spec.get("headers", {}))))


def _type(name: str, schema: JsonObject) -> TypeShown:
    required = schema.get("required", [])
    fields = [
        Row(field, (schema_words(spec), "" if field in required else "optional", spec.get("description", "")))
        for field, spec in schema.get("properties", {}).items()
    ]
    return TypeShown(name, schema.get("description", ""), fields)
