"""The Grafana dashboard: it is whole, nothing lies over anything else, and each query asks for what is there."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.kube.kit import CHART, one, render, validate
from tests.kube.promtool import promtool
from tests.kube.test_alerts import unknown

Panel = dict[str, Any]
BOARD: dict[str, Any] = json.loads((CHART / "files" / "dashboard.json").read_text())
PANELS: list[Panel] = BOARD["panels"]
SHOWN = [panel for panel in PANELS if panel["type"] != "row"]
ROWS = (
    "What is pinned",
    "Traffic, errors and latency by name, model and variant",
    "Attempts: retries, hedges and fallbacks",
    "Budgets",
    "Tokens and cost",
    "Circuit breakers and the cache",
    "The sidecar itself",
)


def queries() -> Iterator[tuple[str, str]]:
    """Every query of the board, in plain PromQL, with where it stands."""
    for panel in SHOWN:
        for target in panel["targets"]:
            yield panel["title"], target["expr"]
    for annotation in BOARD["annotations"]["list"]:
        yield annotation["name"], annotation["expr"]


def plain(expr: str) -> str:
    return expr.replace("$__rate_interval", "5m").replace("$__range", "1h")


def test_rows_are_what_people_look_for() -> None:
    assert tuple(panel["title"] for panel in PANELS if panel["type"] == "row") == ROWS


def test_ids_are_unique_and_titles_too() -> None:
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)
    assert len({panel["title"] for panel in PANELS}) == len(PANELS)


def overlap(a: Panel, b: Panel) -> bool:
    one_, two = a["gridPos"], b["gridPos"]
    return all(one_[at] < two[at] + two[size] and two[at] < one_[at] + one_[size] for at, size in ("xw", "yh"))


def test_no_panel_lies_over_another_or_beyond_the_edge() -> None:
    assert [(a["title"], b["title"]) for a, b in combinations(PANELS, 2) if overlap(a, b)] == []
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in PANELS)
    assert overlap({"gridPos": {"x": 0, "y": 0, "w": 8, "h": 8}}, {"gridPos": {"x": 7, "y": 7, "w": 8, "h": 8}})


def test_every_panel_says_what_it_shows_and_asks_the_chosen_source() -> None:
    for panel in SHOWN:
        assert panel["description"].endswith("."), panel["title"]
        for source in (panel["datasource"], *(target["datasource"] for target in panel["targets"])):
            assert source == {"type": "prometheus", "uid": "${datasource}"}
        refs = [target["refId"] for target in panel["targets"]]
        assert len(set(refs)) == len(refs)


def test_variables() -> None:
    variables = BOARD["templating"]["list"]
    assert [variable["name"] for variable in variables] == ["datasource", "namespace", "pod", "pin"]
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(BOARD))) - {"__rate_interval", "__range", "__all"}
    assert used == {variable["name"] for variable in variables}


@pytest.mark.parametrize(("where", "expr"), list(queries()))
def test_every_query_is_of_the_chosen_pods_and_of_metrics_that_exist(where: str, expr: str) -> None:
    for selector in re.findall(r"\{([^{}]*)\}", expr):
        assert 'namespace=~"$namespace"' in selector
        assert 'pod=~"$pod"' in selector
    assert unknown(expr, {}) == []


def test_prometheus_parses_every_query(tmp_path: Path) -> None:
    file = tmp_path / "rules.yaml"
    records = [{"record": f"panel:{n}", "expr": plain(expr)} for n, (_, expr) in enumerate(queries())]
    file.write_text(yaml.safe_dump({"groups": [{"name": "board", "rules": records}]}))
    said = promtool("check", "rules", str(file))
    assert said.returncode == 0, said.stdout + said.stderr
    assert f"{len(records)} rules found" in said.stdout


def test_legends_name_labels_that_the_query_keeps() -> None:
    for panel in SHOWN:
        for target in panel["targets"]:
            kept = {label.strip() for group in re.findall(r"\bby \(([^()]*)\)", target["expr"]) for label in
                    group.split(",")}  # fmt: skip
            assert set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) <= kept, panel["title"]


def test_grafana_finds_it_as_a_configmap() -> None:
    config_map = one(render(), "ConfigMap", "model-sidecar-dashboard")
    validate([config_map], "1.36")
    assert config_map["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert json.loads(config_map["data"]["model-sidecar.json"]) == BOARD
    changed = {"dashboard": {"labels": {"boards": "yes"}, "annotations": {"grafana_folder": "Models"}}}
    found = one(render(changed), "ConfigMap", "model-sidecar-dashboard")["metadata"]
    assert (found["labels"]["boards"], found["annotations"]) == ("yes", {"grafana_folder": "Models"})


def test_it_can_be_left_out() -> None:
    assert not [m for m in render({"dashboard": {"enabled": False}}) if m["metadata"]["name"].endswith("-dashboard")]
