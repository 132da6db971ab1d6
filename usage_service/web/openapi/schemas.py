"""JSON Schemas of the requests and responses of routes, made from the types."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import msgspec

from usage_service.web.openapi.operations import Operation

JsonObject = dict[str, Any]
REFERENCES = "#/components/schemas/{name}"


class Field(NamedTuple):
    """Parameter as OpenAPI describes it."""

    name: str
    required: bool
    schema: JsonObject


class Schemas:
    """Schemas of the types of some operations, and the components that they refer to."""

    def __init__(self, operations: Iterable[Operation]) -> None:
        declared = [*operations]
        self._types = list(dict.fromkeys(kind for one in declared for kind in _types(one)))
        schemas, components = msgspec.json.schema_components(self._types, ref_template=REFERENCES)
        self._schemas = list(schemas)
        self.components: dict[str, JsonObject] = {name: _cleaned(schema) for name, schema in components.items()}
        parameters = {kind for one in declared for kind in (one.query, one.path) if kind}
        self._parameters = {kind: self.components.pop(self._name(kind)) for kind in parameters}

    def of(self, kind: object) -> JsonObject:
        """Return the schema of a type, or of a choice of several types."""
        if isinstance(kind, tuple):
            return {"anyOf": [self.of(one) for one in kind]}
        if kind is bytes:
            return {}  # JSON Schema cannot describe bytes that are not text
        return self._schemas[self._types.index(kind)]

    def described(self, schema: JsonObject) -> str:
        """Return the first paragraph of the description of a struct that the schema refers to, else an empty text."""
        component = self.components.get(schema.get("$ref", "").rpartition("/")[2], {})
        return " ".join(str(component.get("description", "")).partition("\n\n")[0].split())

    def fields(self, kind: type[msgspec.Struct]) -> Iterator[Field]:
        """Yield the fields of a struct of parameters. One that may be None may be left out, but is never `null`."""
        schema = self._parameters[kind]
        for name, spec in schema["properties"].items():
            yield Field(name, name in schema["required"], _without_null(spec))

    def _name(self, kind: object) -> str:
        return str(self.of(kind)["$ref"]).rpartition("/")[2]


def _types(operation: Operation) -> Iterator[object]:
    yield from (kind for kind in (operation.query, operation.path) if kind)
    contents = [*operation.body, *(content for response in operation.responses for content in response.content)]
    for content in contents:
        kinds = content.kind if isinstance(content.kind, tuple) else (content.kind,)
        yield from (kind for kind in kinds if kind is not bytes)


def _cleaned(schema: JsonObject) -> JsonObject:
    told = {"description": inspect.cleandoc(schema["description"])} if "description" in schema else {}
    return schema | told


def _without_null(spec: JsonObject) -> JsonObject:
    options = [option for option in spec.get("anyOf", [spec]) if option != {"type": "null"}]
    rest = {name: value for name, value in spec.items() if name != "anyOf" and value is not None}
    return options[0] | rest if len(options) == 1 else {"anyOf": options} | rest
