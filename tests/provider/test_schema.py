"""The smallest value that a schema allows."""

import pytest

from sidecar.provider import schema


@pytest.mark.parametrize(
    ("given", "value"),
    [
        ({}, None),
        ({"const": 3}, 3),
        ({"enum": ["a", "b"]}, "a"),
        ({"type": "OBJECT", "properties": {"x": {"type": "STRING"}}, "required": ["x"]}, {"x": ""}),
        ({"type": "object", "properties": {"x": {"type": "string"}}}, {}),
        ({"type": ["string", "null"]}, None),
        ({"type": "string", "minLength": 3}, "aaa"),
        ({"type": "string", "format": "date"}, "2026-01-01"),
        ({"type": "array", "items": {"type": "boolean"}, "minItems": 2}, [False, False]),
        ({"type": "array", "items": {"type": "boolean"}}, []),
        ({"type": "integer", "minimum": 7, "multipleOf": 5}, 10),
        ({"type": "integer", "exclusiveMinimum": 4}, 5),
        ({"type": "integer", "maximum": -3}, -4),
        ({"type": "number"}, 0),
        ({"anyOf": [{"type": "integer"}, {"type": "string"}]}, 0),
        ({"anyOf": [{"type": "integer"}, {"type": "null"}]}, None),
        ({"allOf": [{"type": "string"}, {"minLength": 1}]}, "a"),
        ({"$ref": "#/$defs/a~1b", "$defs": {"a/b": {"type": "boolean"}}}, False),
    ],
)
def test_smallest(given, value):
    assert schema.smallest(given) == value


def test_endless_reference_ends():
    endless = {
        "$ref": "#/$defs/n",
        "$defs": {"n": {"type": "object", "properties": {"n": {"$ref": "#/$defs/n"}}, "required": ["n"]}},
    }
    assert isinstance(schema.smallest(endless), dict)
