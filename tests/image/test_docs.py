"""What docs/image.md shows: its compose file is one, and the settings it lists are those of tools/image."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/image.md").read_text()
BLOCKS = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
SETTINGS = ("IMAGE", "PLATFORMS", "EXTRAS", "PYTHON_IMAGE", "ENGINE", "PUSH", "PIP_CONF")


def test_the_compose_file_is_valid(tmp_path: Path) -> None:
    file = tmp_path / "compose.yaml"
    file.write_text(BLOCKS[0])
    tool = Path(sys.executable).with_name("check-jsonschema")
    done = subprocess.run(
        [tool, "--builtin-schema", "vendor.compose-spec", file], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_compose_file_grants_the_sidecar_nothing() -> None:
    service = yaml.safe_load(BLOCKS[0])["services"]["model-sidecar"]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "ports" not in service


@pytest.mark.parametrize("setting", SETTINGS)
def test_the_setting_is_one_of_the_script(setting: str) -> None:
    assert f"`{setting}=" in PAGE
    assert re.search(rf"\${{?{setting}\b", (ROOT / "tools/image").read_text())
