"""Every field of every request that the API's own document describes, with the rest of a request that has it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NamedTuple, cast
from urllib.parse import quote, urlsplit

from aiohttp import ClientResponse
from yarl import URL

from tests.support.servers import Client, JsonObject
from usage_service.web.api.routes import ROUTES
from usage_service.web.openapi.calls import Call
from usage_service.web.openapi.document import openapi_document


class RequestField(NamedTuple):
    """A field: `place` is query, path or body; `example` is a request in which it may stand."""

    method: str
    route: str
    place: str
    name: str
    schema: JsonObject
    example: Call

    def __str__(self) -> str:
        return f"{self.method} {self.route} {self.place} {self.name}"

    @property
    def takes_time(self) -> bool:
        """Return whether it is an instant."""
        return any(one.get("format") == "date-time" for one in _choices(self.schema))

    async def send(self, client: Client, text: str) -> ClientResponse:
        """Send the example with the text as this field, escaped as the place has it."""
        address = urlsplit(self.example.address)
        path, query, body = address.path, address.query, self.example.body
        if self.place == "query":
            kept = [pair for pair in query.split("&") if pair and pair.partition("=")[0] != self.name]
            query = "&".join([*kept, f"{self.name}={quote(text, safe='%')}"])
        elif self.place == "path":
            steps = zip(self.route.split("/"), path.split("/"), strict=True)
            path = "/".join(quote(text, safe="%") if step == f"{{{self.name}}}" else sent for step, sent in steps)
        else:
            is_list = any(one.get("type") == "array" for one in _choices(self.schema))
            body = cast(JsonObject, body) | {self.name: [text] if is_list else text}
        place = URL(f"http://{client.host}:{client.port}{path}{f'?{query}' if query else ''}", encoded=True)
        sent = json.dumps(body) if self.example.media_type else None
        headers = {"Content-Type": self.example.media_type} if self.example.media_type else {}
        return await client.session.request(
            self.method, place, data=sent, headers=headers, allow_redirects=False, timeout=None
        )


def request_fields() -> Iterator[RequestField]:
    """Return all of them, but for those of events, which are judged one by one."""
    document: JsonObject = json.loads(json.dumps(openapi_document(ROUTES)))
    for route, operations in document["paths"].items():
        for method, operation in operations.items():
            call = Call(document, method, route, operation)
            for one in operation["parameters"]:
                if "$ref" not in one:  # a header
                    yield RequestField(call.method, route, one["in"], one["name"], one["schema"], call)
            body = _body(document, operation)
            for name, schema in body.get("properties", {}).items():
                yield RequestField(call.method, route, "body", name, schema, call)


def _body(document: JsonObject, operation: JsonObject) -> JsonObject:
    schema = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
    while "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return cast(JsonObject, schema)


def _choices(schema: JsonObject) -> list[Any]:
    return list(schema.get("anyOf", [schema]))
