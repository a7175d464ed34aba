"""The charts' values.schema.json: closed, in step with sidecar.yaml's own schema, and the same in both charts."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from sidecar import __version__
from tests.kube import kit
from tests.kube.values_schema import Schema, settings_in_values

NOT_OURS = {
    "global", "model-sidecar-lib",
    "fieldRef", "fileKeyRef", "resourceFieldRef",
    "ipBlock", "namespaceSelector", "podSelector",
}  # fmt: skip
"""What belongs to Helm, and parts of Kubernetes' own API, which its schemas check."""


def read(chart: Path) -> Schema:
    """A chart's values.schema.json."""
    schema: Schema = json.loads((chart / "values.schema.json").read_text())
    return schema


def expected_library() -> Schema:
    """The library's schema with its generated part as it must be."""
    schema = read(kit.LIBRARY)
    settings, definitions = settings_in_values()
    schema["properties"]["sidecar"]["properties"]["settings"] = settings
    schema["definitions"] = dict(sorted((schema["definitions"] | definitions).items()))
    return schema


def expected_application() -> Schema:
    """The application's schema: what it shares with the library as the library has it."""
    schema, library = read(kit.CHART), expected_library()
    for name in library["properties"].keys() & schema["properties"].keys():
        schema["properties"][name] = library["properties"][name]
    schema["definitions"] = dict(sorted((schema["definitions"] | library["definitions"]).items()))
    return schema


@pytest.mark.parametrize(("chart", "expected"), [(kit.LIBRARY, expected_library), (kit.CHART, expected_application)])
def test_it_is_in_step(chart: Path, expected: Any) -> None:
    wanted = expected()
    if os.environ.get(kit.UPDATE):
        (chart / "values.schema.json").write_text(json.dumps(wanted, indent=2) + "\n")
    assert read(chart) == wanted, f"{kit.UPDATE}=1 writes it"


def objects(node: Any, name: str = "") -> Iterator[tuple[str, Schema]]:
    """Every object schema, with the name that it is known by."""
    if not isinstance(node, dict):
        return
    if node.get("type") == "object":
        yield name, node
    for key, value in node.items():
        if key in ("properties", "definitions"):
            for inner, schema in value.items():
                yield from objects(schema, inner)
        else:
            yield from objects(value, name)


@pytest.mark.parametrize("chart", [kit.LIBRARY, kit.CHART])
def test_no_object_takes_unknown_keys(chart: Path) -> None:
    """A map with keys of the user's own is fine: it says what its values are."""
    open_ones = {
        name for name, schema in objects(read(chart)) if schema.get("additionalProperties", True) in (True, {})
    }
    assert open_ones <= NOT_OURS


def test_both_charts_have_the_same_defaults() -> None:
    library = yaml.safe_load((kit.LIBRARY / "values.yaml").read_text())
    application = yaml.safe_load((kit.CHART / "values.yaml").read_text())
    assert {name: value for name, value in library.items() if name not in ("enabled", "existing")} == {
        name: value for name, value in application.items() if name in library
    }


@pytest.mark.parametrize("chart", [kit.LIBRARY, kit.CHART])
def test_every_value_has_a_default_and_a_schema(chart: Path) -> None:
    values = yaml.safe_load((chart / "values.yaml").read_text())
    assert values.keys() == read(chart)["properties"].keys() - {"global", kit.LIBRARY.name}


def test_all_speak_of_the_same_version() -> None:
    library, application = (yaml.safe_load((c / "Chart.yaml").read_text()) for c in (kit.LIBRARY, kit.CHART))
    rendered = kit.one(kit.render(), "ConfigMap", "model-sidecar-config")["metadata"]["labels"]
    assert {library["appVersion"], application["appVersion"], rendered["app.kubernetes.io/version"]} == {__version__}
    assert library["version"] == application["version"] == application["dependencies"][0]["version"]
