"""Links from answers to the operations that take what they hold, found by the names and formats of fields."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from usage_service.web.openapi.operations import JSON, Operation, Response, Route
from usage_service.web.openapi.schemas import JsonObject, Schemas

READ_WHAT_WAS_WRITTEN = {"at_least": "position"}  # the parameter that takes the field of another name
Name = tuple[str, str]  # with the format: an id of a build of Firefox is not one of ours


class Links:
    """The links to operations whose path has variables, and to those that take the position of what was recorded."""

    def __init__(self, described: Sequence[tuple[Route, Operation]], schemas: Schemas) -> None:
        self._schemas = schemas
        self._taken = {route.handler.__name__: dict(self._takes(operation)) for route, operation in described}

    def of(self, response: Response) -> dict[str, JsonObject]:
        """Return the links of a response by the name of the operation; none for a problem."""
        places: dict[Name, str] = {}
        for content in response.content:
            if content.media_type == JSON and response.status < 400:
                for name, place in self._places(self._schemas.of(content.kind)):
                    places.setdefault(name, place)
                    places.setdefault((name[0], ""), place)
        return {
            operation: {"operationId": operation, "parameters": {name: places[one] for name, one in taken.items()}}
            for operation, taken in self._taken.items()
            if taken and places.keys() >= set(taken.values())
        }

    def _takes(self, operation: Operation) -> Iterator[tuple[str, Name]]:
        """Yield the parameters that a link gives, each with the field that it is taken from."""
        for field in self._schemas.fields(operation.path) if operation.path else ():
            yield f"path.{field.name}", _named(field.name, field.schema)
        if operation.query and not operation.path:
            for field in self._schemas.fields(operation.query):
                if field.name in READ_WHAT_WAS_WRITTEN:
                    yield f"query.{field.name}", (READ_WHAT_WAS_WRITTEN[field.name], "")

    def _places(self, schema: JsonObject) -> Iterator[tuple[Name, str]]:
        """Yield the fields of an answer, and those of the first item of each list in it, with where they are."""
        for option in schema.get("anyOf", [schema]):
            fields = self._fields(option)
            yield from ((_named(name, spec), f"$response.body#/{name}") for name, spec in fields.items())
            for name, spec in fields.items():
                for inner, its_spec in self._fields(spec.get("items", {})).items():
                    yield _named(inner, its_spec), f"$response.body#/{name}/0/{inner}"

    def _fields(self, schema: JsonObject) -> Mapping[str, JsonObject]:
        component = self._schemas.components.get(schema.get("$ref", "").rpartition("/")[2], schema)
        fields: Mapping[str, JsonObject] = component.get("properties", {})
        return fields


def _named(name: str, schema: JsonObject) -> Name:
    # Not that of times, which msgspec gives to parameters only.
    formats = [option.get("format") for option in schema.get("anyOf", [schema])]
    return name, "uuid" if "uuid" in formats else ""
