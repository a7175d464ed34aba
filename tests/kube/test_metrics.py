"""What a real sidecar shows, in the eyes of Prometheus' own linter."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.kube.promtool import promtool
from tests.process.kit import call, chat, command, serve, wait

PINS = Path(__file__).parents[2] / "config" / "pins-full.yaml"


@pytest.fixture(scope="module")
def metrics(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """After a good answer, a name that no one knows, and a pin file that is refused."""
    folder = tmp_path_factory.mktemp("sidecar")
    with command(folder, "provider", "--listen", "127.0.0.1:0", stdout=subprocess.PIPE) as provider:
        assert provider.popen.stdout is not None
        base_url = provider.popen.stdout.readline().decode().rpartition(" ")[2].strip() + "/v1"
        with serve(folder, base_url, pins=PINS.read_text()) as sidecar:

            def scraped() -> str:
                return call(f"{sidecar.admin}/metrics").body.decode()

            assert chat(sidecar, stream=True).status == 200
            assert chat(sidecar, model="nobody-knows-it").status != 500
            assert "sidecar_pins_last_reload_successful 1.0" in scraped()
            (folder / "pins.yaml").write_text("generation: none")
            wait(lambda: "sidecar_pins_last_reload_successful 0.0" in scraped())
            yield scraped()


def test_promtool_finds_no_fault_with_our_metrics(metrics: str) -> None:
    said = promtool("check", "metrics", stdin=metrics)
    assert (said.returncode, said.stdout + said.stderr) == (0, "")


def test_the_linter_is_awake() -> None:
    said = promtool("check", "metrics", stdin="# TYPE waited_milliseconds counter\nwaited_milliseconds 1\n")
    assert said.returncode != 0
    assert "waited_milliseconds" in said.stderr


def test_the_shares_are_those_of_the_pin_file(metrics: str) -> None:
    told = {"model": "gpt-5.5-2026-01-15", "pin": "chat.core", "variant": "canary"}
    samples = [sample for family in text_string_to_metric_families(metrics) for sample in family.samples]
    assert [s.value for s in samples if s.name == "sidecar_pin_share" and s.labels == told] == [0.1]


def test_there_is_no_fleet_that_could_be_down(metrics: str) -> None:
    assert "# TYPE sidecar_fleet_up gauge" in metrics
    assert "\nsidecar_fleet_up " not in metrics


def test_the_refused_file_left_the_one_in_use_alone(metrics: str) -> None:
    assert '\nsidecar_pins_info{generation="42"' in metrics
    assert '\nsidecar_unlisted_total{dialect="openai"} 1.0' in metrics
