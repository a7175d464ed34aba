"""Files of the tests in this folder."""

from __future__ import annotations

import datetime
import textwrap
from pathlib import Path

import pytest

from sidecar.settings.load import load_settings, read_pins

ROOT = Path(__file__).parents[2]
TODAY = datetime.date(2026, 11, 23)


@pytest.fixture(scope="session")
def config() -> Path:
    return ROOT / "config"


@pytest.fixture
def settings_at(tmp_path):
    """Writes sidecar.yaml with this text and loads it."""

    def load(text, env=None, **overrides):
        path = tmp_path / "sidecar.yaml"
        path.write_text(textwrap.dedent(text))
        return load_settings(path, env={} if env is None else env, **overrides)

    return load


@pytest.fixture
def settings(settings_at):
    """Three defaults; `eu` has a key of its own, `bare` has none."""
    return settings_at(
        """
        pins: pins.yaml
        providers:
          openai: {dialect: openai, base_url: "https://api.openai.com/v1"}
          eu: {dialect: openai, base_url: "https://eu.api.openai.com/v1", api_key_env: EU_KEY}
          bare: {dialect: openai, base_url: "https://bare.example/v1"}
          anthropic: {dialect: anthropic, base_url: "https://api.anthropic.com"}
          gemini: {dialect: gemini, base_url: "https://generativelanguage.googleapis.com"}
        """,
        env={"EU_KEY": "x"},
    )


@pytest.fixture
def pins_of(settings):
    """Loads a pin file's text under those settings, on a fixed day."""

    def load(text, file="pins.yaml", under=settings):
        return read_pins(textwrap.dedent(text).encode(), file, under, today=TODAY)

    return load
