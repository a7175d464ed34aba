"""How the peers of the benchmarks are installed, configured and started. Nothing is fetched here."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from benchmarks import load, systems
from benchmarks.lab import target
from benchmarks.peers import (
    PEERS,
    Peer,
    SkippedError,
    base,
    bifrost,
    haproxy,
    install,
    litellm,
    nginx,
    survey,
    tensorzero,
)
from benchmarks.peers.haproxy import HAProxy
from benchmarks.peers.nginx import Nginx
from benchmarks.peers.portkey import TOO_NEW_NODE, Portkey
from benchmarks.systems import Running

VALUES = {"folder": "/tmp/run", "port": 4010, "upstream": 4020, "alias": "chat.core", "model": "bench-1"}
REQUIREMENTS = base.REQUIREMENTS
BY_NAME = {peer.name: type(peer) for peer in PEERS}


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine without any program, for somebody who isn't root. The folder is its PATH."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(install, "SBIN", str(tmp_path))
    monkeypatch.setattr(install.os, "geteuid", lambda: 1000)
    return tmp_path


def script(folder: Path, name: str, body: str) -> None:
    """A program in `folder`."""
    file = folder / name
    file.write_text(f"#!/bin/sh\n{body}\n")
    file.chmod(0o755)


@pytest.mark.parametrize("module", [nginx, haproxy, tensorzero, litellm, bifrost])
def test_a_configuration_has_no_hole_and_names_the_provider(module: object) -> None:
    text = base.fill(module.CONFIGURATION, **VALUES)  # type: ignore[attr-defined]
    assert "{{" not in text
    assert "127.0.0.1:4020" in text


def test_no_proxy_gathers_events() -> None:
    assert "proxy_buffering off;" in nginx.CONFIGURATION
    assert "option http-no-delay" in haproxy.CONFIGURATION


def test_configurations_can_be_read_by_their_formats() -> None:
    read = tomllib.loads(base.fill(tensorzero.CONFIGURATION, **VALUES))
    assert read["gateway"]["observability"]["enabled"] is False
    assert list(read["models"]) == ["chat.core"]
    read = yaml.safe_load(base.fill(litellm.CONFIGURATION, **VALUES))
    assert read["model_list"][0]["litellm_params"]["model"] == "openai/bench-1"
    read = json.loads(base.fill(bifrost.CONFIGURATION, **VALUES))
    assert read["providers"]["openai"]["network_config"]["base_url"] == "http://127.0.0.1:4020"


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("nginx", "no nginx on this machine"),
        ("haproxy", "no haproxy on this machine"),
        ("portkey", "no Node.js on this machine"),
        ("bifrost", "no Go on this machine"),
    ],
)
def test_what_is_missing_is_said(bare: Path, name: str, word: str) -> None:
    told = survey(BY_NAME[name](bare))
    assert word in told.skipped
    assert told.version == ""


def test_a_node_that_portkey_does_not_start_on_is_said(bare: Path) -> None:
    script(bare, "node", f"echo v{TOO_NEW_NODE}.1.0")
    with pytest.raises(SkippedError, match=r"doesn't start on Node\.js 24 or later, and this is v24\.1\.0"):
        Portkey(bare).install()


def test_a_module_that_is_refused_is_said_without_an_address(bare: Path) -> None:
    script(bare, "gcc", "")
    script(bare, "go", 'echo "go: reading https://proxy.example/x: 403 Forbidden" >&2; exit 1')
    told = survey(bifrost.Bifrost(bare))
    assert told.skipped.endswith("from the Go module proxy failed: go: reading 403 Forbidden")


def test_a_python_package_that_cannot_be_installed_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script(tmp_path, "python", "echo no such thing; exit 3")
    monkeypatch.setattr(install.sys, "executable", str(tmp_path / "python"))
    told = survey(litellm.LiteLLM(tmp_path))
    assert told.skipped == "an environment for litellm failed: no such thing"


def test_a_home_is_filled_once_for_a_key_and_a_half_filled_one_anew(tmp_path: Path) -> None:
    home, made = tmp_path / "home", list[str]()

    def fail() -> None:
        (home / "half").touch()
        raise SkippedError("no")

    with pytest.raises(SkippedError):
        install.once(home, "a", fail)
    install.once(home, "a", lambda: made.append("first"))
    install.once(home, "a", lambda: made.append("again"))
    install.once(home, "b", lambda: made.append("for b"))
    assert made == ["first", "for b"]
    assert not (home / "half").exists()


def test_locks_pin_what_is_asked_for_with_hashes_and_name_no_registry() -> None:
    for name in ("litellm", "tensorzero"):
        wanted = (REQUIREMENTS / f"{name}.in").read_text().strip().replace("[proxy]", "")
        lock = (REQUIREMENTS / f"{name}.lock").read_text()
        assert f"\n{wanted} " in lock
        assert lock.count("==") <= lock.count("--hash=sha256:")
        assert "://" not in lock
    asked = json.loads((REQUIREMENTS / "portkey" / "package.json").read_text())
    packages = json.loads((REQUIREMENTS / "portkey" / "package-lock.json").read_text())["packages"]
    for name, wanted in (asked["dependencies"] | asked["overrides"]).items():
        assert packages[f"node_modules/{name}"]["version"] == wanted
    assert all("resolved" not in one and "integrity" in one for path, one in packages.items() if path)


@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.name)
def test_each_peer_is_told_of(peer: Peer) -> None:
    text = (base.HERE / "README.md").read_text()
    assert f"`{peer.name}.py`" in text
    assert peer.setup.endswith((".", "requests/s."))
    assert peer.home == base.CACHE / peer.name


@pytest.fixture
def provider(tmp_path: Path) -> Iterator[Running]:
    running = systems.provider(tmp_path / "provider")
    yield running
    running.stop()


@pytest.mark.parametrize("peer", [Nginx(), HAProxy()], ids=lambda peer: peer.name)
def test_a_proxy_from_debian_forwards_and_streams(peer: Peer, provider: Running, tmp_path: Path) -> None:
    try:
        install.program(peer.name, "not here")
    except SkippedError:
        pytest.skip(f"no {peer.name} on this machine")
    assert peer.version()[0].isdigit()
    running = peer.start(tmp_path, provider.port)
    try:
        plain = load.run(lambda: load.closed(target(running), connections=2, requests=20))
        assert (plain.done, plain.failed) == (20, 0), plain.last_failure
        long = load.run(lambda: load.closed(target(running, prompt=1_000_000), connections=1, requests=2))
        assert (long.done, long.failed) == (2, 0), long.last_failure
        streams = load.run(lambda: load.streams(target(running, stream=True), concurrent=2))
        assert (streams.done, streams.failed) == (2, 0), streams.last_failure
        assert streams.chunks == 2 * 101
    finally:
        running.stop()
