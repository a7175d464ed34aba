"""The Terraform example: formatted, parsed, and in accord with the chart. Its providers can't be had offline."""

from __future__ import annotations

import re
import shutil
import subprocess
from typing import Any

import hcl2
import pytest
import yaml

from sidecar import __version__
from tests.examples.kit import EXAMPLES
from tests.kube import kit

FOLDER = EXAMPLES / "terraform"


@pytest.fixture(scope="module")
def blocks() -> dict[str, list[Any]]:
    """All blocks of the folder's files by kind, with quotes taken off."""
    found: dict[str, list[Any]] = {}
    for path in sorted(FOLDER.glob("*.tf")):
        for kind, entries in plain(hcl2.loads(path.read_text())).items():
            found.setdefault(kind, []).extend(entries)
    return found


def plain(value: Any) -> Any:
    """python-hcl2 keeps the quotes of strings, and adds marks of its own."""
    if isinstance(value, dict):
        return {plain(key): plain(entry) for key, entry in value.items() if not key.startswith("__")}
    if isinstance(value, list):
        return [plain(entry) for entry in value]
    return value[1:-1] if isinstance(value, str) and re.fullmatch(r'"[^"]*"', value) else value


def resource(blocks: dict[str, list[Any]], kind: str) -> Any:
    (found,) = [entry[kind] for entry in blocks["resource"] if kind in entry]
    (body,) = found.values()
    return body


def variables(blocks: dict[str, list[Any]]) -> dict[str, Any]:
    return {name: body for entry in blocks["variable"] for name, body in entry.items()}


def test_it_is_formatted() -> None:
    if shutil.which("terraform") is None:
        pytest.skip("no terraform on PATH")
    command = ["terraform", "fmt", "-check", "-diff", "-recursive", str(FOLDER)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout


def test_the_key_is_in_no_state(blocks: dict[str, list[Any]]) -> None:
    secret = resource(blocks, "kubernetes_secret_v1")
    assert variables(blocks)["openai_api_key"]["ephemeral"] is True
    assert "default" not in variables(blocks)["openai_api_key"]
    assert "data" not in secret
    assert "var.openai_api_key" in str(secret["data_wo"])
    assert secret["data_wo_revision"]  # without it nothing is written at all
    text = "".join(path.read_text() for path in FOLDER.glob("*.tf"))
    assert len(re.findall(r"var\.openai_api_key\b(?!_)", text)) == 1


def test_every_variable_is_declared_and_used(blocks: dict[str, list[Any]]) -> None:
    text = "".join(path.read_text() for path in FOLDER.glob("*.tf"))
    assert set(re.findall(r"var\.(\w+)", text)) == set(variables(blocks))


def test_the_chart_takes_the_values_and_mounts_that_secret(blocks: dict[str, list[Any]]) -> None:
    values = yaml.safe_load((FOLDER / "values.yaml").read_text())
    values |= {"namespaces": ["chat"], "pins": {"content": (FOLDER / "pins.yaml").read_text()}}
    manifests = kit.render(values, name="model-sidecar", namespace="model-sidecar")
    (entry,) = values["sidecar"]["secrets"]
    secret = resource(blocks, "kubernetes_secret_v1")
    assert secret["metadata"][0]["name"] == entry["secretName"]
    assert entry["secretKey"] in str(secret["data_wo"])
    settings = yaml.safe_load(kit.one(manifests, "ConfigMap", "model-sidecar-config")["data"]["sidecar.yaml"])
    assert settings["providers"]["openai"]["api_key_file"].endswith("openai/api-key")
    assert set(settings["providers"]) == {"openai"}
    binding = resource(blocks, "kubernetes_role_binding_v1")
    role = kit.one(manifests, "Role", binding["role_ref"][0]["name"])
    assert role["metadata"]["namespace"] == "chat"


def test_the_chart_version_is_this_one(blocks: dict[str, list[Any]]) -> None:
    assert variables(blocks)["chart_version"]["default"] == kit.version_of(kit.CHART) == __version__
