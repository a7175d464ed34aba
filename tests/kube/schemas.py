"""Custom resources against the schemas that their operators publish; `schemas/dump.mjs` writes these out.

Strict on keys, types and enumerations. Patterns, bounds and what the expressions in them mean are not checked here.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest

FOLDER = Path(os.environ.get("KUBE_SCHEMAS", Path(__file__).parents[2] / ".venv" / "kube" / "schemas"))


@cache
def _validator(api_version: str, kind: str) -> Any:
    file = FOLDER / f"{api_version.replace('/', '_')}_{kind}.json"
    if not file.is_file():
        group = api_version.rpartition("/")[0]
        if any(FOLDER.glob(f"{group}_*_{kind}.json")):
            raise AssertionError(f"{api_version} {kind}: its operator has no such version")
        return None
    return jsonschema.Draft202012Validator(json.loads(file.read_text()))


def problems(manifest: Mapping[str, Any]) -> list[str]:
    """What is wrong with it, each with its place. Skips the test where there are no schemas on this machine."""
    api_version, kind = manifest["apiVersion"], manifest["kind"]
    validator = _validator(api_version, kind)
    if validator is None:
        if FOLDER.is_dir():
            raise AssertionError(f"{api_version} {kind}: not among the schemas in {FOLDER}")
        pytest.skip(f"no schemas of custom resources in {FOLDER}; tools/kube-tools makes them where npm is there")
    return [_told(error) for error in validator.iter_errors(manifest)]


def check(manifest: Mapping[str, Any]) -> None:
    """Fails with all that is wrong with this custom resource."""
    found = problems(manifest)
    name = manifest.get("metadata", {}).get("name")
    assert not found, f"{manifest['kind']} {name}:\n  " + "\n  ".join(found)


def _told(error: Any) -> str:
    best = jsonschema.exceptions.best_match([error])
    return f"{best.json_path}: {best.message}"
