"""A file is read and compared in a thread; what happens meanwhile must not make what is told of it untrue."""

from __future__ import annotations

from pathlib import Path

import pytest

from sidecar.runtime import pinned as module
from sidecar.settings.words import changes
from tests.harness import Running
from tests.pins.kit import generation, pins


async def test_what_was_compared_is_not_compared_again(
    seven: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pinned = seven.lifecycle.shared.pinned
    fresh = tmp_path / "fresh.yaml"
    fresh.write_text(pins(8))
    found = pinned.look(fresh)
    assert found.changes
    monkeypatch.setattr(module, "changes", None)
    pinned.judge(found)
    assert generation(seven) == "8"


async def test_a_stop_between_look_and_judge_is_told_of(
    seven: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pinned = seven.lifecycle.shared.pinned
    fresh = tmp_path / "fresh.yaml"
    fresh.write_text(pins(8))
    found = pinned.look(fresh)
    pinned.stop("chat.core", "canary")
    told: list[list[str]] = []
    monkeypatch.setattr(module, "changes", lambda *a, **k: told.append(changes(*a, **k)) or told[-1])
    pinned.judge(found)
    assert generation(seven) == "8"
    assert "chat.core: canary was stopped and takes units again" in told[0]


async def test_a_look_that_is_remembered_holds_no_older_pins(seven: Running, tmp_path: Path) -> None:
    pinned = seven.lifecycle.shared.pinned
    fresh = tmp_path / "fresh.yaml"
    fresh.write_text(pins(8))
    assert pinned.look(fresh).since is not None
    again = pinned.look(fresh)
    assert (again.since, again.changes) == (None, None)
    pinned.judge(again)
    assert generation(seven) == "8"
