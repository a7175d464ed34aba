"""The schema as editors and people see it; the committed docs are up to date and their examples load."""

from __future__ import annotations

import re

import msgspec
import pytest
import yaml

from sidecar.settings.export import _sections, configuration_markdown, pins_schema, settings_schema
from sidecar.settings.load import read_pins
from sidecar.settings.options import SidecarFile
from sidecar.settings.schema import PinFile
from sidecar.settings.validate import metas


def test_the_committed_page_is_up_to_date(config):
    page = (config.parent / "docs" / "configuration.md").read_text()
    assert page == configuration_markdown(), "run: python -m sidecar.settings.export > docs/configuration.md"


def keys_of(node, own_names):
    """Every key of the schema in a file; the names that users choose are left out."""
    if isinstance(node, list):
        for item in node:
            yield from keys_of(item, own_names)
    elif isinstance(node, dict):
        for key, value in node.items():
            yield key
            if key in own_names and isinstance(value, dict):
                for item in value.values():
                    yield from keys_of(item, own_names)
            else:
                yield from keys_of(value, own_names)


@pytest.mark.parametrize("name", ["sidecar-full.yaml", "pins-full.yaml"])
def test_every_key_of_the_full_samples_is_documented(config, name):
    data = yaml.safe_load((config / name).read_text())
    page = configuration_markdown()
    found = set(keys_of(data, {"providers", "models", "pins", "variants", "aliases"}))
    assert len(found) > 20
    assert {key for key in found if f"| `{key}` |" not in page} == set()


@pytest.mark.parametrize("shape", [PinFile, SidecarFile])
def test_the_full_samples_show_every_key(config, shape):
    name = "pins-full.yaml" if shape is PinFile else "sidecar-full.yaml"
    text = (config / name).read_text()
    for _, section in _sections(shape, "", {}):
        for field in msgspec.structs.fields(section):
            assert re.search(rf"\b{field.name}\b", text), f"{section.__name__}.{field.name}"
            assert any(meta.description for meta in metas(field.type)), f"{section.__name__}.{field.name}"


def validate(schema, node, value, path="$"):
    """A JSON Schema validator for the few words that ours use. Raises on a word that it doesn't know."""
    known = {"$ref", "type", "properties", "additionalProperties", "required", "items", "enum", "anyOf", "pattern"}
    known |= {
        "minimum",
        "maximum",
        "exclusiveMinimum",
        "minLength",
        "maxLength",
        "minItems",
        "maxItems",
        "minProperties",
    }
    known |= {"format", "description", "default", "$schema", "$defs", "title"}
    assert set(node) <= known, path
    if "$ref" in node:
        return validate(schema, schema["$defs"][node["$ref"].rpartition("/")[2]], value, path)
    if "enum" in node:
        return [] if value in node["enum"] else [path]
    if "anyOf" in node:
        return [] if any(not validate(schema, arm, value, path) for arm in node["anyOf"]) else [path]
    kinds = {"object": dict, "array": list, "string": str, "integer": int, "number": (int, float), "boolean": bool}
    if not isinstance(value, kinds[node["type"]]):
        return [path]
    wrong = []
    if isinstance(value, dict):
        rest = node.get("additionalProperties")
        wrong += [f"{path}.{key}" for key in node.get("required", ()) if key not in value]
        for key, item in value.items():
            part = node.get("properties", {}).get(key, rest)
            wrong += [f"{path}.{key}"] if part is False else validate(schema, part, item, f"{path}.{key}")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            wrong += validate(schema, node["items"], item, f"{path}[{index}]")
    elif isinstance(value, str) and "pattern" in node and not re.search(node["pattern"], value):
        wrong.append(path)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        inside = node.get("minimum", value) <= value <= node.get("maximum", value) and value > node.get(
            "exclusiveMinimum", -1
        )
        wrong += [] if inside else [path]
    return wrong


class TextDates(yaml.SafeLoader):
    """As an editor sees a date: text."""


TextDates.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith("timestamp")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


@pytest.mark.parametrize(
    ("schema", "name"),
    [
        (pins_schema(), "pins.yaml"),
        (pins_schema(), "pins-full.yaml"),
        (settings_schema(), "sidecar.yaml"),
        (settings_schema(), "sidecar-full.yaml"),
    ],
)
def test_the_samples_fit_their_json_schema(config, schema, name):
    assert validate(schema, schema, yaml.load((config / name).read_text(), TextDates)) == []


def test_the_json_schema_refuses_what_the_loader_refuses():
    schema = pins_schema()
    bad = {
        "unlisted": "x",
        "bogus": 1,
        "models": {"m": {}},
        "pins": {"p": {"stable": None, "cache": {"ttl": "60"}, "max_attempts": 0}},
    }
    assert validate(schema, schema, bad) == [
        "$.unlisted", "$.bogus", "$.models.m.provider", "$.pins.p.stable", "$.pins.p.cache.ttl",
        "$.pins.p.max_attempts",
    ]  # fmt: skip


def test_defaults_in_the_json_schema_are_as_people_write_them():
    limits = settings_schema()["$defs"]["LimitsSpec"]["properties"]
    assert (limits["body"]["default"], limits["keepalive"]["default"], limits["in_flight"]["default"]) == (
        "32MiB",
        "75s",
        512,
    )


def test_the_examples_of_the_guide_load(config, settings):
    text = (config.parent / "docs" / "pins.md").read_text()
    examples = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    assert len(examples) >= 5
    for example in examples:
        assert read_pins(example.encode(), "docs/pins.md", settings).warnings == ()


def test_the_error_in_the_guide_is_what_a_user_sees(config):
    text = (config.parent / "docs" / "pins.md").read_text()
    said = re.search(r"there is no model '(\S+)' in the catalogue — fix: did you mean `(\S+)`\?", text)
    assert said
    assert said[1] != said[2]
