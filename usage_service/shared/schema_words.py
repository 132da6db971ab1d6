"""JSON Schema in words, for reference pages that are made from types."""

from __future__ import annotations

from typing import Any

JsonObject = dict[str, Any]
LIMITS = {
    "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
    "maxItems": "at most {}",
    "minimum": "from {}",
    "exclusiveMinimum": "above {}",
    "maximum": "to {}",
}


def schema_words(spec: JsonObject) -> str:
    """Describe a type and its limits in words; a struct by its name."""
    if "$ref" in spec:
        return f"`{spec['$ref'].rpartition('/')[2]}`"
    if "discriminator" in spec:
        return f"one of those told apart by `{spec['discriminator']['propertyName']}`"
    if "anyOf" in spec:
        return " or ".join(schema_words(option) for option in spec["anyOf"])
    if "enum" in spec:
        return " or ".join(f"`{value}`" for value in spec["enum"])
    words = [spec.get("format") or str(spec.get("type", "any"))]
    words += [phrase.format(f"{spec[limit]:,}") for limit, phrase in LIMITS.items() if limit in spec]
    if "items" in spec:
        words.append(f"each {schema_words(spec['items'])}")
    if isinstance(spec.get("additionalProperties"), dict):
        words.append(f"of {schema_words(spec['additionalProperties'])} by name")
    return ", ".join(words)
