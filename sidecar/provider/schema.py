"""The smallest value that a JSON Schema allows.

Enough of JSON Schema for structured outputs and tool parameters, with Gemini's
upper-case type names. It is not a validator, and it ignores `pattern` and `not`.
"""

from __future__ import annotations

from typing import Any, Final

_DEEPEST: Final = 32
_BY_FORMAT: Final = {
    "date": "2026-01-01",
    "date-time": "2026-01-01T00:00:00Z",
    "time": "00:00:00Z",
    "email": "a@example.com",
    "uri": "https://example.com",
    "uuid": "00000000-0000-0000-0000-000000000000",
    "ipv4": "127.0.0.1",
    "ipv6": "::1",
}

Schema = dict[str, Any]


def smallest(schema: Schema) -> Any:
    """A minimal value valid for `schema`; required members only, null where it is allowed."""
    return _value(schema, schema, 0)


def _value(schema: Any, root: Schema, depth: int) -> Any:
    if not isinstance(schema, dict) or depth > _DEEPEST:
        return None
    if isinstance(reference := schema.get("$ref"), str):
        return _value(_resolve(reference, root), root, depth + 1)
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return schema["enum"][0]
    for name in ("anyOf", "oneOf"):
        if options := schema.get(name):
            nullable = any(isinstance(option, dict) and option.get("type") == "null" for option in options)
            return None if nullable else _value(options[0], root, depth + 1)
    if parts := schema.get("allOf"):
        merged = {key: value for part in parts if isinstance(part, dict) for key, value in part.items()}
        return _value(merged, root, depth + 1)
    return _of_type(_type(schema), schema, root, depth)


def _type(schema: Schema) -> str:
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = "null" if "null" in kind else next(iter(kind), "null")
    if kind is None:
        kind = "object" if "properties" in schema else "array" if "items" in schema else "null"
    return str(kind).lower()


def _of_type(kind: str, schema: Schema, root: Schema, depth: int) -> Any:
    match kind:
        case "object":
            properties = schema.get("properties") or {}
            return {name: _value(properties.get(name, {}), root, depth + 1) for name in schema.get("required") or ()}
        case "array":
            item = _value(schema.get("items", {}), root, depth + 1) if schema.get("minItems") else None
            return [item] * int(schema.get("minItems") or 0)
        case "string":
            return _BY_FORMAT.get(schema.get("format", ""), "a" * int(schema.get("minLength") or 0))
        case "integer" | "number":
            return _number(schema)
        case "boolean":
            return False
        case _:
            return None


def _number(schema: Schema) -> Any:
    step = schema.get("multipleOf") or 1
    if "minimum" in schema and schema["minimum"] > 0:
        return -(-schema["minimum"] // step) * step
    if "exclusiveMinimum" in schema and schema["exclusiveMinimum"] >= 0:
        return (schema["exclusiveMinimum"] // step + 1) * step
    upper: Any = schema.get("maximum", schema.get("exclusiveMaximum", 1))
    return 0 if upper > 0 or (upper == 0 and "maximum" in schema) else (upper // step - 1) * step


def _resolve(reference: str, root: Schema) -> Any:
    found: Any = root
    for step in reference.removeprefix("#").strip("/").split("/"):
        if not step:
            continue
        found = found.get(step.replace("~1", "/").replace("~0", "~")) if isinstance(found, dict) else None
    return found
