"""OpenAPI 3.1 document of the service's API, made from the routes and the types."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Sequence
from http import HTTPStatus
from importlib.metadata import version

from usage_service.web.openapi.links import Links
from usage_service.web.openapi.operations import Content, Operation, Response, Route, operation_of
from usage_service.web.openapi.responses import (
    REQUEST_HEADERS,
    RESPONSE_HEADERS,
    request_headers,
    responses_of,
    takes_bearer,
)
from usage_service.web.openapi.schemas import JsonObject, Schemas
from usage_service.web.tabular import all_forms

ABOUT = """The usage service records how an application is used, and reports which probes are viewed. It tells the
nightly ETL which probes are worth building, and builds the others on demand.

Every GET route answers HEAD, too. Errors are problems in the format of RFC 9457; they name the field and the fix. The
header `Log-Position` of an answer is the position up to which it has seen every event. The parameters `at_least` and
`wait` ask for a fresher answer, and If-None-Match avoids reading an answer again that has not changed. Without a token
in its settings the service listens on loopback only, and needs none."""
FORMS = """`csv` is the list as rows, as `Accept: text/csv` is; texts that a spreadsheet would take for a formula begin
with an apostrophe"""
BEARER = {
    "type": "http",
    "scheme": "bearer",
    "description": "A token made by `usage-service token create`; each route says which scope it needs.",
}


class UndescribedRouteError(Exception):
    """A route's handler was not declared with `described`, or the variables of its path were not."""


def openapi_document(routes: Sequence[Route]) -> JsonObject:
    """Return the OpenAPI document; raise UndescribedRouteError."""
    described = [(route, _operation(route)) for route in routes]
    schemas = Schemas(operation for _, operation in described)
    links = Links(described, schemas)
    paths: dict[str, JsonObject] = {}
    for route, operation in described:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation_object(route, operation, schemas, links)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Usage service",
            "version": version("glam-usage"),
            "description": ABOUT,
            "license": {"name": "MPL-2.0", "identifier": "MPL-2.0"},
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": name} for name in dict.fromkeys(map(_tag, routes))],
        "paths": paths,
        "components": {
            "schemas": schemas.components,
            "headers": {name: _header(*about) for name, about in RESPONSE_HEADERS.items()},
            "parameters": {name: _request_header(name, *about) for name, about in REQUEST_HEADERS.items()},
            "securitySchemes": {"bearer": BEARER},
        },
    }


def _operation(route: Route) -> Operation:
    operation = operation_of(route.handler)
    if operation is None:
        raise UndescribedRouteError(f"{route.method} {route.path}: declare its handler with @described(...)")
    declared = set(operation.path.__struct_encode_fields__) if operation.path else set()
    if declared != set(re.findall(r"{(\w+)}", route.path)):
        raise UndescribedRouteError(f"{route.method} {route.path}: `path` has to declare the variables of the path")
    return operation


def _operation_object(route: Route, operation: Operation, schemas: Schemas, links: Links) -> JsonObject:
    summary, _, more = inspect.cleandoc(route.handler.__doc__ or "").partition("\n\n")
    described: JsonObject = {
        "operationId": route.handler.__name__,
        "tags": [_tag(route)],
        "summary": " ".join(summary.split()),
        "x-scope": route.scope,
        "security": [{"bearer": [route.scope]}] if takes_bearer(route) else [],
        "parameters": list(_parameters(operation, schemas)),
        "responses": {
            str(status): _response(response, schemas, links)
            for status, response in responses_of(route, operation).items()
        },
    }
    chosen = inspect.getdoc(operation.query) if operation.query and operation.query.__struct_fields__ else None
    if more := "\n\n".join(filter(None, [more, chosen])):
        described["description"] = more
    if operation.body:
        described["requestBody"] = {
            "required": operation.body_required,
            "content": _content(operation.body, schemas),
        }
    return described


def _tag(route: Route) -> str:
    first, _, rest = route.path.strip("/").partition("/")
    return {"v1": rest.partition("/")[0], "api": "glam"}.get(first, "service")


def _parameters(operation: Operation, schemas: Schemas) -> Iterator[JsonObject]:
    for place, kind in (("path", operation.path), ("query", operation.query)):
        for field in schemas.fields(kind) if kind else ():
            schema = dict(field.schema)
            words = {"description": schema.pop("description")} if "description" in schema else {}
            if operation.table is None or field.name != "format":  # that of a table comes last
                yield {"name": field.name, "in": place, "required": field.required, **words, "schema": schema}
    if operation.table:
        forms = {"enum": all_forms(operation.query), "default": "json"}
        yield {"name": "format", "in": "query", "required": False, "description": FORMS, "schema": forms}
    yield from ({"$ref": f"#/components/parameters/{name}"} for name in request_headers(operation))


def _response(response: Response, schemas: Schemas, links: Links) -> JsonObject:
    content = _content(response.content, schemas)
    told = [schemas.described(one["schema"]) for one in content.values()]
    described: JsonObject = {"description": response.means or told[0] or HTTPStatus(response.status).phrase}
    if response.headers:
        described["headers"] = {name: {"$ref": f"#/components/headers/{name}"} for name in response.headers}
    if content:
        described["content"] = content
    if leads_to := links.of(response):
        described["links"] = leads_to
    return described


def _content(contents: Sequence[Content], schemas: Schemas) -> dict[str, JsonObject]:
    return {content.media_type: {"schema": schemas.of(content.kind)} for content in contents}


def _header(means: str, schema: JsonObject) -> JsonObject:
    return {"description": means, "schema": schema}


def _request_header(name: str, means: str, schema: JsonObject) -> JsonObject:
    return {"name": name, "in": "header", "required": False, "description": means, "schema": schema}
