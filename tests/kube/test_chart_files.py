"""The rendered files are good for the real sidecar: they load, and the rendered container's command starts on them."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import pytest

from sidecar.settings.load import load_settings, read_pins
from sidecar.settings.static import Settings
from tests.kube import kit
from tests.kube.kit import CHART, EXAMPLE, Manifest, sidecar_of
from tests.process.kit import call, command, listening, wait

MOUNTS = "/etc/model-sidecar"
SAMPLE = (CHART.parents[1] / "config" / "pins.yaml").read_text()
SECRETS = [
    {"provider": "openai", "secretName": "llm", "secretKey": "openai", "env": "OPENAI_KEY"},
    {"provider": "gemini", "secretName": "llm.keys", "secretKey": "gemini"},
]


def mount(folder: Path, manifests: list[Manifest], spec: Manifest) -> None:
    """Lays out what the sidecar's container mounts under `folder`, as kubelet does: a directory behind `..data`."""
    maps = {m["metadata"]["name"]: m["data"] for m in manifests if m["kind"] == "ConfigMap"}
    volumes = {volume["name"]: volume for volume in spec["volumes"]}
    for entry in sidecar_of(spec)["volumeMounts"]:
        volume = volumes[entry["name"]]
        data = maps[volume["configMap"]["name"]] if "configMap" in volume else {"gemini": "a-key"}
        at = folder / entry["mountPath"].removeprefix(f"{MOUNTS}/")
        (at / "..2026").mkdir(parents=True)
        (at / "..data").symlink_to("..2026")
        for name, text in data.items():
            (at / "..2026" / name).write_text(text)
            (at / name).symlink_to(Path("..data") / name)


def mounted(folder: Path, **values: Any) -> tuple[list[Manifest], Manifest]:
    """The example app's manifests with these values, their files under `folder`, and the pod's spec."""
    kube_version = values.pop("kube_version", "1.36")
    manifests = kit.render({"modelSidecar": values}, chart=EXAMPLE, kube_version=kube_version)
    spec = kit.one(manifests, "Deployment")["spec"]["template"]["spec"]
    mount(folder, manifests, spec)
    return manifests, spec


def settings_of(folder: Path, **values: Any) -> Settings:
    mounted(folder, **values)
    return load_settings(folder / "config" / "sidecar.yaml", env={"OPENAI_KEY": "x"})


def test_the_default_settings_load_without_a_warning(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    assert settings.warnings == ()
    assert (settings.listen, settings.admin_listen) == ((("127.0.0.1", 4010),), ("127.0.0.1", 4011))
    assert settings.probe_listen == ("0.0.0.0", 4012)
    assert settings.pins_path.read_text() == (tmp_path / "pins" / "pins.yaml").read_text()
    assert settings.pins_last_good and settings.pins_last_good.exists()
    assert {name: p.base_url for name, p in settings.providers.items()} == {
        "openai": "https://api.openai.com/v1",
        "anthropic": "https://api.anthropic.com",
        "gemini": "https://generativelanguage.googleapis.com",
    }
    assert settings.events and settings.events.path == "-"
    assert settings.audit and settings.audit.path == "-"
    assert settings.log.path == "-"


@pytest.mark.parametrize(("kube_version", "idle"), [("1.28", 10.0), ("1.36", 2.0)])
def test_a_classic_sidecar_waits_longer_for_silence(tmp_path: Path, kube_version: str, idle: float) -> None:
    assert float(settings_of(tmp_path, kube_version=kube_version).drain.idle) == idle


def test_a_drain_that_the_values_set_stays(tmp_path: Path) -> None:
    drain = {"idle": "1s", "grace": "5s"}
    settings = settings_of(tmp_path, kube_version="1.28", sidecar={"settings": {"drain": drain}})
    assert (float(settings.drain.idle), float(settings.drain.grace)) == (1.0, 5.0)


def test_secrets_reach_their_providers(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, sidecar={"secrets": SECRETS})
    assert settings.providers["openai"].api_key_env == "OPENAI_KEY"
    key_file = settings.providers["gemini"].api_key_file
    assert key_file and key_file.read_text() == "a-key"
    assert settings.warnings == ()


def test_every_setting_that_the_schema_takes_loads(tmp_path: Path) -> None:
    settings = {
        "listen": ["127.0.0.1:4010", "[::1]:4010"],
        "probe": {"listen": "[::]:4012"},
        "allowed_hosts": ["my-app.local"],
        "monotonic": True,
        "limits": {"body": "1MiB", "in_flight": 1000000, "keepalive": "1m"},
        "providers": {
            "openai": {"default": True},
            "openai-eu": {
                "dialect": "openai",
                "base_url": "https://eu.example.com/v1",
                "stream_usage": "keep",
                "proxy": "none",
            },
        },
        "events": {"path": "-", "user_id": "none"},
        "log": {"level": "debug"},
    }
    loaded = settings_of(tmp_path, sidecar={"settings": settings})
    assert loaded.limits.in_flight == 1000000
    assert loaded.default_provider["openai"] == "openai"


@pytest.mark.parametrize(("content", "names"), [(None, 0), (SAMPLE, 7)], ids=["the chart's own", "the sample"])
def test_the_pin_file_loads_with_these_settings(tmp_path: Path, content: str | None, names: int) -> None:
    settings = settings_of(tmp_path, **({} if content is None else {"pins": {"content": content}}))
    data = settings.pins_path.read_bytes()
    pins = read_pins(data, str(settings.pins_path), settings, today=datetime.date(2026, 3, 1))
    assert len(pins.pins) == names


def test_a_pin_file_in_json_is_found_by_its_name(tmp_path: Path) -> None:
    pins = {"content": '{"version": 1, "generation": 1, "unlisted": "pass"}', "format": "json"}
    settings = settings_of(tmp_path, pins=pins)
    assert settings.pins_path.name == "pins.json"
    assert settings.pins_path.exists() and settings.pins_last_good and settings.pins_last_good.exists()


@pytest.mark.parametrize("kube_version", ["1.28", "1.36"])
def test_the_rendered_container_starts(tmp_path: Path, kube_version: str) -> None:
    _, spec = mounted(tmp_path, kube_version=kube_version)
    container = sidecar_of(spec)
    config = tmp_path / "config" / "sidecar.yaml"
    free = config.read_text()
    for port in ("4010", "4011", "4012"):
        free = free.replace(f":{port}", ":0")
    config.resolve().write_text(free)
    args = [arg.replace(MOUNTS, str(tmp_path)) for arg in container["args"]]
    with command(tmp_path, *args) as process:
        addresses = wait(lambda: listening(process))
        probe = "http://127.0.0.1:" + addresses["probe"][0].rpartition(":")[2]
        for kind in ("startupProbe", "readinessProbe", "livenessProbe"):
            assert call(probe + container[kind]["httpGet"]["path"]).status == 200
        assert b'sidecar_pins_info{generation="1"' in call(f"{probe}/metrics").body


def test_the_sdks_variables_lead_to_the_sidecar(tmp_path: Path) -> None:
    manifests, _ = mounted(tmp_path)
    env = kit.one(manifests, "ConfigMap", "model-sidecar-env")["data"]
    listen = load_settings(tmp_path / "config" / "sidecar.yaml").listen[0]
    base = f"http://{listen[0]}:{listen[1]}"
    assert env == {
        "OPENAI_BASE_URL": f"{base}/v1",
        "ANTHROPIC_BASE_URL": base,
        "GOOGLE_GEMINI_BASE_URL": base,
        "NO_PROXY": "127.0.0.1,localhost,::1",
        "no_proxy": "127.0.0.1,localhost,::1",
    }
