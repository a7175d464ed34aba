"""The part of the charts' values.schema.json that follows from the schema of sidecar.yaml.

What the chart sets itself is taken out, and the ports, which other parts of the chart rely on, are fixed.
"""

from __future__ import annotations

import copy
from typing import Any

from sidecar.settings.export import settings_schema

Schema = dict[str, Any]
OWN = ("pins", "pins_last_good")


def settings_in_values() -> tuple[Schema, dict[str, Schema]]:
    """The schema at `sidecar.settings`, and the definitions that it refers to."""
    definitions = _draft_7(settings_schema()["$defs"])
    settings = definitions.pop("SidecarFile")
    for name in OWN:
        del settings["properties"][name]
    settings["properties"]["listen"]["items"]["pattern"] = ":4010$"
    definitions["AdminSpec"]["properties"]["listen"]["pattern"] = ":4011$"
    definitions["ProbeSpec"]["properties"]["listen"]["pattern"] = ":4012$"
    definitions["ProviderSpec"]["properties"]["base_url"]["pattern"] = "^https?://[^/]"
    return settings, definitions


def _draft_7(node: Any) -> Any:
    """The same schema in the draft that every Helm 3 and 4 reads."""
    if isinstance(node, dict):
        return {key: _draft_7(value) for key, value in copy.copy(node).items()}
    if isinstance(node, list):
        return [_draft_7(item) for item in node]
    return node.replace("#/$defs/", "#/definitions/") if isinstance(node, str) else node
