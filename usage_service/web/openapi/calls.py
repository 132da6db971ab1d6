"""Example call of each route, made from its OpenAPI operation: with curl, and in Python."""

from __future__ import annotations

import json
from urllib.parse import quote, urlencode

from usage_service.shared.schema_words import JsonObject

HERE = "http://127.0.0.1:8080"
# What stands for a value that has a meaning beyond its type; other values are made from their type.
VALUES: dict[str, object] = {
    "product": "fog",
    "channel": "nightly",
    "probe": "gc_ms",
    "visitor": "0191e0a5-30c4-4a43-8f5e-5d3a4a1b2c3d",
    "pattern": "telemetry_test_*",
    "run": "nightly-2026-11-24",
    "version": 152,
    "page": "/fog/probe/gc_ms/explore",
    "token": "us_...",
    "app_id": "nightly",
    "ping_type": "*",
    "os": "*",
    "probes": ["gc_ms"],
    "aggregationLevel": "version",
}
FORMATS = {"uuid": "0191e0a5-30c4-7a43-8f5e-5d3a4a1b2c3d", "date-time": "2026-11-24T04:00:00Z", "date": "2026-11-24"}
SIMPLE: dict[str, object] = {"string": "text", "integer": 1, "number": 1.0, "boolean": True, "null": None}
QUERY = {
    "product": "fog",
    "app_id": "nightly",
    "ping_type": "*",
    "os": "*",
    "probe": "gc_ms",
    "aggregationLevel": "version",
}
# Where a route asks for more than its type does, or for one of several things.
BODIES: dict[str, JsonObject] = {
    "/v1/events": {
        "event_id": FORMATS["uuid"], "type": "probe_viewed", "occurred_at": FORMATS["date-time"], "visitor": "user 7",
        "product": "fog", "channel": "nightly", "probe": "gc_ms", "data": {"found": True},
    },
    "/v1/events/restore": {
        "position": 1, "event_id": FORMATS["uuid"], "type": "page_viewed", "schema_version": 1,
        "occurred_at": FORMATS["date-time"], "recorded_at": FORMATS["date-time"], "visitor": None, "product": None,
        "channel": None, "probe": None, "source": "app", "data": {"page": "/"}, "digest": FORMATS["uuid"],
    },
    "/v1/hotlist": {"run": VALUES["run"], "product": "fog", "budget": 500},
    "/v1/builds/prefetch": {"product": "fog", "channel": "nightly", "budget": 500},
    "/api/v1/data/": {"query": QUERY},
    "/api/v1/labels/": {"query": QUERY},
}  # fmt: skip
QUERIES: dict[str, JsonObject] = {
    "/v1/probes/{product}/{probe}/comparison": {"with_version": 151},
    "/v1/releases/probes": {"channel": "nightly", "version": 152},
}
JSON = "application/json"


class Call:
    """Example of a call: its address with what is needed, and a body that the route takes."""

    def __init__(self, document: JsonObject, method: str, route: str, operation: JsonObject) -> None:
        self._document = document
        self.method, self.scope = method.upper(), operation["x-scope"]
        given = [self._resolved(one) for one in operation["parameters"]]
        needed = {
            one["name"]: (one["in"], self._sample(one["schema"], one["name"])) for one in given if one["required"]
        }
        path = route
        for name, (place, value) in needed.items():
            if place == "path":
                path = path.replace(f"{{{name}}}", quote(str(value), safe="*:"))
        query = {name: value for name, (in_, value) in needed.items() if in_ == "query"} | QUERIES.get(route, {})
        self.address = HERE + path + (f"?{urlencode(query)}" if query else "")
        contents = operation.get("requestBody", {}).get("content", {})
        self.media_type = JSON if JSON in contents else next(iter(contents), "")
        self.body = BODIES.get(route) or (self._sample(contents[self.media_type]["schema"]) if contents else None)

    def curl(self) -> str:
        """Return the call as a command for a shell."""
        words = ["curl -s" if self.method in ("GET", "POST") else f"curl -s -X {self.method}"]
        if self.scope not in ("open", "feed"):
            words.append('-H "Authorization: Bearer $USAGE_SERVICE_TOKEN"')
        if self.media_type:
            words += [f"-H 'Content-Type: {self.media_type}'", f"-d '{json.dumps(self.body)}'"]
        elif self.method == "POST":
            words.insert(1, "-X POST")
        return " ".join([*words, f"'{self.address}'"])

    def python(self) -> str:
        """Return the call as a program of the standard library."""
        lines = ["import json, os", "from urllib.request import Request, urlopen", ""]
        heads = (
            []
            if self.scope in ("open", "feed")
            else ['"Authorization": f"Bearer {os.environ[\'USAGE_SERVICE_TOKEN\']}"']
        )
        heads += [f'"Content-Type": "{self.media_type}"'] if self.media_type else []
        body = f"json.dumps({self.body!r}).encode()" if self.media_type else "None"
        lines += [
            f"request = Request({self.address!r}, {body},",
            f"                  {{{', '.join(heads)}}}, method={self.method!r})",
            "with urlopen(request, timeout=60) as answer:",
            "    print(answer.status, answer.read().decode())",
        ]
        return "\n".join(lines)

    def _resolved(self, schema: JsonObject) -> JsonObject:
        while "$ref" in schema:
            _, kind, name = schema["$ref"].removeprefix("#/").split("/")
            schema = self._document["components"][kind][name]
        return schema

    def _sample(self, schema: JsonObject, name: str = "") -> object:
        """Return a value of the schema: the first of a choice, the fields that are needed of an object."""
        schema = self._resolved(schema)
        for choice in ("anyOf", "oneOf"):
            if choice in schema:
                return self._sample(schema[choice][0], name)
        if name in VALUES:
            return VALUES[name]
        if "enum" in schema or "const" in schema:
            return schema.get("const", schema.get("enum", [None])[0])
        if "properties" in schema:
            return {field: self._sample(schema["properties"][field], field) for field in schema.get("required", ())}
        kind = schema.get("type")
        if kind == "array":
            return [self._sample(schema.get("items", {"type": "string"}))]
        return {} if kind == "object" else FORMATS.get(schema.get("format", ""), SIMPLE.get(str(kind), "text"))
