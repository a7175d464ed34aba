"""Canaries by generation: which pods mount what, and whether the analysis judges as it says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from sidecar.telemetry.table import TABLE
from tests.examples.kit import EXAMPLES, NATIVE, build, mounted, pin_file, read, template, validate
from tests.kube import kit
from tests.kube.kit import Manifest
from tests.kube.promtool import promtool

ROLLOUTS, ISTIO = EXAMPLES / "argo-rollouts", EXAMPLES / "istio"
ARGS = {"namespace": "chat", "rollout": "chat", "hash": "6c9bd", "generation": "8"}
CANARY, STABLE = "chat-6c9bd-x7k2p", "chat-5f7aa-m2m9q"


@pytest.mark.parametrize("folder", [ROLLOUTS, ISTIO], ids=lambda folder: folder.name)
@pytest.mark.parametrize("version", NATIVE)
def test_it_builds_and_is_valid(folder: Path, version: str) -> None:
    validate(build(folder), version)


# --- Argo Rollouts ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def rollouts() -> list[Manifest]:
    return build(ROLLOUTS)


def test_the_pods_mount_the_next_generation_and_fall_back_on_the_last(rollouts: list[Manifest]) -> None:
    pod = template(rollouts)
    live, previous = mounted(rollouts, pod), mounted(rollouts, pod, "model-sidecar-last-good")
    assert (pin_file(live)["generation"], pin_file(previous)["generation"]) == (8, 7)
    assert live["immutable"] is previous["immutable"] is True
    assert re.fullmatch(r"model-sidecar-pins-8-[a-z0-9]{10}", live["metadata"]["name"])


def test_the_rollout_takes_its_pods_from_the_deployment(rollouts: list[Manifest]) -> None:
    rollout, deployment = kit.one(rollouts, "Rollout"), kit.one(rollouts, "Deployment")
    assert rollout["spec"]["workloadRef"]["name"] == deployment["metadata"]["name"]
    assert rollout["spec"]["workloadRef"]["scaleDown"] == "onsuccess"  # the schema takes any word
    assert "template" not in rollout["spec"]
    assert "replicas" not in deployment["spec"]


def test_the_analysis_gets_all_that_it_asks_for(rollouts: list[Manifest]) -> None:
    asked = {arg["name"] for arg in kit.one(rollouts, "AnalysisTemplate")["spec"]["args"] if "value" not in arg}
    analyses = [
        s["analysis"] for s in kit.one(rollouts, "Rollout")["spec"]["strategy"]["canary"]["steps"] if "analysis" in s
    ]
    assert len(analyses) == 2
    generation = str(pin_file(mounted(rollouts, template(rollouts)))["generation"])
    for analysis in analyses:
        given = {arg["name"]: arg for arg in analysis["args"]}
        assert set(given) == asked == set(ARGS)
        assert given["generation"]["value"] == generation
        assert analysis["templates"] == [{"templateName": kit.one(rollouts, "AnalysisTemplate")["metadata"]["name"]}]


def queries() -> dict[str, str]:
    """Metric → its query, with the arguments put in."""
    (found,) = read(ROLLOUTS / "analysis-template.yaml")
    texts = {metric["name"]: metric["provider"]["prometheus"]["query"] for metric in found["spec"]["metrics"]}
    return {name: re.sub(r"\{\{args\.(\w+)\}\}", lambda m: ARGS[m[1]], text) for name, text in texts.items()}


def test_the_queries_ask_for_metrics_and_labels_that_there_are() -> None:
    labels = {row.name: set(row.labels) for row in TABLE}
    for query in queries().values():
        for metric, selector in re.findall(r"(sidecar_\w+)\{([^}]*)\}", query):
            used = set(re.findall(r"(\w+)(?==|!)", selector)) - {"namespace", "pod"}
            assert used <= labels[metric.removesuffix("_total")]


def series(name: str, pod: str, values: str, **labels: str) -> dict[str, str]:
    pairs = {"namespace": "chat", "pod": pod, **labels}
    inner = ", ".join(f'{key}="{value}"' for key, value in pairs.items())
    return {"series": f"{name}{{{inner}}}", "values": values}


def attempts(pod: str, model: str, outcome: str, per_minute: float) -> dict[str, str]:
    values = f"0+{per_minute}x20"
    return series("sidecar_variant_attempts_total", pod, values, model=model, cause="first", outcome=outcome)


HEALTHY = [attempts(CANARY, "new", "ok", 100)]
CASES: dict[str, tuple[str, list[dict[str, str]], float | None]] = {
    "healthy": ("worst-model-error-ratio", HEALTHY, 0),
    "no traffic": ("worst-model-error-ratio", [], None),
    "too little traffic": ("worst-model-error-ratio", [attempts(CANARY, "new", "failed", 1)], None),
    "all fail": ("worst-model-error-ratio", [attempts(CANARY, "new", "failed", 100)], 1),
    "its fallback hides it": (
        "worst-model-error-ratio",
        [attempts(CANARY, "new", "failed", 100), attempts(CANARY, "old", "ok", 100)],
        1,
    ),
    "one of four": (
        "worst-model-error-ratio",
        [attempts(CANARY, "new", "failed", 25), attempts(CANARY, "new", "ok", 75), attempts(CANARY, "old", "ok", 100)],
        0.25,
    ),
    "only stable fails": ("worst-model-error-ratio", [*HEALTHY, attempts(STABLE, "old", "failed", 100)], 0),
    "clients that left": ("worst-model-error-ratio", [*HEALTHY, attempts(CANARY, "new", "client_gone", 100)], 0),
    "all on it": ("pods-on-another-generation", [series("sidecar_pins_info", CANARY, "1x20", generation="8")], 0),
    "on it, with a stop": (
        "pods-on-another-generation",
        [series("sidecar_pins_info", CANARY, "1x20", generation="8+stop")],
        0,
    ),
    "on an older one": ("pods-on-another-generation", [series("sidecar_pins_info", CANARY, "1x20", generation="7")], 1),
    "stable on an older one": (
        "pods-on-another-generation",
        [
            series("sidecar_pins_info", STABLE, "1x20", generation="7"),
            series("sidecar_pins_info", CANARY, "1x20", generation="8"),
        ],
        0,
    ),
    "no pods": ("pods-on-another-generation", [], None),
    "no drift": ("answers-of-another-model", [series("sidecar_pins_info", CANARY, "1x20", generation="8")], 0),
    "drift": ("answers-of-another-model", [series("sidecar_model_drift_total", CANARY, "0+1x20", model="new")], 10),
    "no pods, no drift": ("answers-of-another-model", [], None),
}


@pytest.mark.parametrize("case", CASES)
def test_the_analysis_judges_as_it_says(case: str, tmp_path: Path) -> None:
    metric, input_series, expected = CASES[case]
    samples = [] if expected is None else [{"labels": "{}", "value": expected}]
    test: dict[str, Any] = {
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": input_series,
                "promql_expr_test": [{"expr": queries()[metric], "eval_time": "15m", "exp_samples": samples}],
            }
        ],
    }
    file = tmp_path / "test.yaml"
    file.write_text(yaml.safe_dump(test))
    done = promtool("test", "rules", str(file))
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_number_is_either_good_or_bad_and_none_is_neither() -> None:
    (found,) = read(ROLLOUTS / "analysis-template.yaml")
    for metric in found["spec"]["metrics"]:
        for result, verdict in (([], (False, False)), ([0.0], (True, False)), ([1.0], (False, True))):
            names = {"len": len, "result": result, "__builtins__": {}}
            sides = (metric["successCondition"], metric["failureCondition"])
            assert tuple(eval(side.replace("&&", "and"), names) for side in sides) == verdict


# --- Istio -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def istio() -> list[Manifest]:
    return build(ISTIO)


def test_each_subset_is_one_deployment_on_the_generation_of_its_label(istio: list[Manifest]) -> None:
    subsets = {s["name"]: s["labels"] for s in kit.one(istio, "DestinationRule")["spec"]["subsets"]}
    assert set(subsets) == {"stable", "canary"}
    for name, labels in subsets.items():
        fitting = [
            m
            for m in istio
            if m["kind"] == "Deployment" and labels.items() <= m["spec"]["template"]["metadata"]["labels"].items()
        ]
        assert [m["metadata"]["name"] for m in fitting] == [f"chat-{name}"]
        file = pin_file(mounted(istio, fitting[0]["spec"]["template"]))
        assert labels["pins-generation"] == str(file["generation"])


def test_selectors_of_the_deployments_do_not_overlap(istio: list[Manifest]) -> None:
    for manifest in istio:
        if manifest["kind"] == "Deployment":
            selector = manifest["spec"]["selector"]["matchLabels"]
            labels = manifest["spec"]["template"]["metadata"]["labels"]
            assert "pins-generation" in selector
            assert selector.items() <= labels.items()


def test_the_service_has_the_pods_of_both(istio: list[Manifest]) -> None:
    selector = kit.one(istio, "Service")["spec"]["selector"]
    for name in ("chat-stable", "chat-canary"):
        assert selector.items() <= template(istio, name)["metadata"]["labels"].items()


def test_the_routes_lead_to_subsets_and_their_weights_are_100(istio: list[Manifest]) -> None:
    host = kit.one(istio, "Service")["metadata"]["name"]
    subsets = {s["name"] for s in kit.one(istio, "DestinationRule")["spec"]["subsets"]}
    for http in kit.one(istio, "VirtualService")["spec"]["http"]:
        assert {route["destination"]["host"] for route in http["route"]} == {host}
        assert {route["destination"]["subset"] for route in http["route"]} <= subsets
        assert sum(route.get("weight", 100) for route in http["route"]) == 100


def test_the_probe_port_stays_out_of_the_mesh(istio: list[Manifest]) -> None:
    pod = template(istio, "chat-canary")
    assert pod["metadata"]["annotations"]["traffic.sidecar.istio.io/excludeInboundPorts"] == "4012"
    assert pod["spec"]["initContainers"][0]["ports"][0]["containerPort"] == 4012
