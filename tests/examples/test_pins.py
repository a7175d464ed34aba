"""Every pin file and every sidecar.yaml of the examples is one that a sidecar takes, without a warning."""

from __future__ import annotations

from pathlib import Path

import pytest

from sidecar.cli import main
from sidecar.settings.load import load_settings
from tests.examples.kit import EXAMPLES

PINS = sorted(EXAMPLES.rglob("pins*.yaml"))
PINS = [path for path in PINS if "pins:" in path.read_text() and "unlisted:" in path.read_text()]
SETTINGS = sorted(EXAMPLES.rglob("sidecar.yaml"))


def told(path: Path) -> str:
    return str(path.relative_to(EXAMPLES))


def test_all_are_found() -> None:
    folders = {path.relative_to(EXAMPLES).parts[0] for path in PINS}
    assert folders == {path.name for path in EXAMPLES.iterdir()}
    assert len(SETTINGS) == 2


@pytest.mark.parametrize("path", PINS, ids=told)
def test_a_pin_file_is_good(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = EXAMPLES / "kustomize" / "components" / "sidecar" / "sidecar.yaml"
    code = main(["pins", "check", str(path), "--config", str(settings), "--strict"])
    assert code == 0, capsys.readouterr().err


@pytest.mark.parametrize("path", SETTINGS, ids=told)
def test_settings_load(path: Path) -> None:
    assert load_settings(path, pins="-", env={}).warnings == ()
