"""The alerts: what the chart renders is what Prometheus takes, and each fires when it must and at no other time.

tests/kube/alerts has a file for each alert, named as its settings in values.yaml, in the form of promtool. Cases with
annotations also check the words; the others leave them out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import Counter, Histogram

from sidecar.kube.injection import metrics as injection
from sidecar.kube.plugin import VERBS
from sidecar.telemetry.table import TABLE
from tests.kube.kit import CHART, MONITORING, RenderError, one, render
from tests.kube.promtool import promtool
from tests.kube.schemas import check

FOLDER = Path(__file__).parent / "alerts"
KEYS = sorted(file.stem for file in FOLDER.glob("*.yaml"))
RUNBOOK = Path(__file__).parents[2] / "docs" / "runbook.md"
VALUES = yaml.safe_load((CHART / "values.yaml").read_text())["prometheusRule"]
SCRAPED = {"namespace", "pod", "container", "endpoint", "job", "instance"}
"""Labels that the scrape adds."""

Rule = dict[str, Any]


def manifest(**values: Any) -> dict[str, Any]:
    """As with the webhook, whose release has a namespace of its own."""
    all_values = {"prometheusRule": values, "injection": {"mode": "webhook"}, "namespaces": ["shop"]}
    return one(render(all_values, api_versions=[MONITORING], namespace="injector"), "PrometheusRule")


def rules(**values: Any) -> list[Rule]:
    return [rule for group in manifest(**values)["spec"]["groups"] for rule in group["rules"]]


def alerts(**values: Any) -> dict[str, Rule]:
    return {rule["alert"]: rule for rule in rules(**values) if "alert" in rule}


def alert_of(key: str) -> str:
    return f"ModelSidecar{key[0].upper()}{key[1:]}"


def needed(key: str) -> list[Rule]:
    """The alert, after what is recorded for it."""
    found = rules()
    alert = next(rule for rule in found if rule.get("alert") == alert_of(key))
    return [rule for rule in found if rule.get("record", "?") in alert["expr"]] + [alert]


def tried(key: str, folder: Path, given: list[Rule]) -> str:
    """What promtool has to say against the alert's unit tests; empty if nothing."""
    suite = yaml.safe_load((FOLDER / f"{key}.yaml").read_text())
    told = [case for case in suite["tests"] if "exp_annotations" in json.dumps(case)]
    silent = [rule | {"annotations": {}} if "alert" in rule else rule for rule in given]
    said = ""
    for name, which, cases in (
        ("words", given, told),
        ("times", silent, [case for case in suite["tests"] if case not in told]),
    ):
        (folder / "rules.yaml").write_text(yaml.safe_dump({"groups": [{"name": "g", "rules": which}]}))
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(suite | {"tests": cases}))
        result = promtool("test", "rules", str(folder / f"{name}.yaml"))
        said += "" if result.returncode == 0 else result.stdout + result.stderr
    return said


@pytest.mark.parametrize("key", KEYS)
def test_the_alert_fires_when_it_must_and_only_then(key: str, tmp_path: Path) -> None:
    if said := tried(key, tmp_path, needed(key)):
        pytest.fail(said, pytrace=False)


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("expr", ["vector(1)", "vector(1) > 1"], ids=["always", "never"])
def test_the_unit_tests_notice_an_alert_that_always_or_never_fires(key: str, expr: str, tmp_path: Path) -> None:
    broken = [rule | {"expr": expr} for rule in needed(key) if "alert" in rule]
    assert "FAILED" in tried(key, tmp_path, broken)


@pytest.mark.parametrize("key", KEYS)
def test_the_unit_tests_are_of_that_alert_and_have_both_sides(key: str) -> None:
    cases = [case for test in yaml.safe_load((FOLDER / f"{key}.yaml").read_text())["tests"] for case in
             test["alert_rule_test"]]  # fmt: skip
    assert {case["alertname"] for case in cases} == {alert_of(key)}
    assert {bool(case["exp_alerts"]) for case in cases} == {True, False}


def test_every_alert_has_unit_tests_settings_and_a_section_in_the_runbook() -> None:
    names = set(alerts())
    assert names == {alert_of(key) for key in KEYS} == {alert_of(key) for key in VALUES["alerts"]}
    assert names == set(re.findall(r"^## (ModelSidecar\w+)$", RUNBOOK.read_text(), re.MULTILINE))


def test_every_alert_tells_what_is_wrong_how_bad_it_is_and_where_to_read_on() -> None:
    for name, rule in alerts(runbookBaseUrl="https://docs.example.com/runbook").items():
        assert rule["labels"]["severity"] in ("info", "warning", "critical"), name
        assert rule["annotations"]["summary"]
        assert rule["annotations"]["description"].endswith(".")
        assert rule["annotations"]["runbook_url"] == f"https://docs.example.com/runbook#{name.lower()}"


def test_prometheus_takes_the_rules(tmp_path: Path) -> None:
    file = tmp_path / "rules.yaml"
    file.write_text(yaml.safe_dump(manifest()["spec"]))
    said = promtool("check", "rules", str(file))
    assert (said.returncode, "SUCCESS" in said.stdout) == (0, True), said.stdout + said.stderr
    file.write_text(yaml.safe_dump({"groups": [{"name": "g", "rules": [{"alert": "A", "expr": "up ="}]}]}))
    assert promtool("check", "rules", str(file)).returncode != 0


def test_the_operator_takes_the_manifest() -> None:
    check(manifest(labels={"release": "prometheus"}))


def samples() -> Iterator[tuple[str, tuple[str, ...]]]:
    """Every sample that a sidecar or the webhook can show, with its labels."""
    for row in (*TABLE, *injection.TABLE):
        if row.kind is Histogram:
            for end, more in (("_bucket", ("le",)), ("_sum", ()), ("_count", ())):
                yield row.name + end, (*row.labels, *more)
        else:
            yield row.name + ("_total" if row.kind is Counter else ""), row.labels


def used(expr: str) -> Iterator[tuple[str, set[str]]]:
    """The metrics that an expression selects, with the labels that it selects by."""
    for name, matchers in re.findall(r"([a-zA-Z_:][a-zA-Z0-9_:]*)?\{([^{}]*)\}", expr):
        labels = dict(re.findall(r'([a-zA-Z_]\w*)\s*(?:=~|!~|!=|=)\s*"([^"]*)"', matchers))
        pattern = name or labels.pop("__name__")
        yield pattern, set(labels)


def unknown(expr: str, records: Mapping[str, set[str]]) -> list[str]:
    """What an expression asks for that isn't there."""
    known = {name: set(labels) for name, labels in samples()} | {"up": set()} | dict(records)
    wrong = []
    for pattern, labels in used(expr):
        matched = [name for name in known if re.fullmatch(pattern, name)]
        if not matched:
            wrong.append(f"there is no metric {pattern}")
        for name in matched:
            wrong += [f"{name} has no label {label}" for label in labels - known[name] - SCRAPED]
    everything = set().union(*known.values(), SCRAPED)
    for group in re.findall(r"\b(?:by|on|without|ignoring|group_left|group_right)\s*\(([^()]*)\)", expr):
        wrong += [f"nothing has the label {one_}" for one_ in re.findall(r"\w+", group) if one_ not in everything]
    return wrong


LABELS = {label for row in (*TABLE, *injection.TABLE) for label in row.labels}
RECORDED = {"sidecar:request_duration_seconds_bucket:increase": {"le", "model", "variant"}}


def test_metrics_and_labels_in_the_alerts_exist() -> None:
    wrong = {name: found for rule in rules() if (found := unknown(rule["expr"], RECORDED)) for name in [str(rule)]}
    assert wrong == {}
    assert unknown('rate(sidecar_requests_total{modle="x"}[5m])', {}) == ["sidecar_requests_total has no label modle"]
    assert unknown('sidecar_request_total{pin="x"}', {}) == ["there is no metric sidecar_request_total"]
    assert unknown("sum by (variannt) (up)", {}) == ["nothing has the label variannt"]


def test_what_is_recorded_is_used_and_what_is_used_is_recorded() -> None:
    text = " ".join(rule["expr"] for rule in rules())
    assert {rule["record"] for rule in rules() if "record" in rule} == set(re.findall(r"sidecar:\w+:\w+", text))


def test_every_pod_selector_is_of_our_namespaces() -> None:
    found = render({"namespaces": ["shop", "desk"]}, api_versions=[MONITORING])
    text = json.dumps(one(found, "PrometheusRule")["spec"])
    assert 'namespace=~\\"shop|desk\\"' in text
    for rule in rules(matchers='cluster="eu"'):
        for pattern, _ in used(rule["expr"]):
            assert (
                ":" in pattern or ('namespace="injector"' if "injection" in pattern else 'cluster="eu"') in rule["expr"]
            )
        assert "namespace=~" not in rule["expr"]


def test_it_is_made_where_the_api_is_there_or_where_it_is_told_to() -> None:
    def made(enabled: object, *api_versions: str) -> bool:
        found = render({"prometheusRule": {"enabled": enabled}}, api_versions=api_versions)
        return any(m["kind"] == "PrometheusRule" for m in found)

    assert [made("auto"), made("auto", MONITORING)] == [False, True]
    assert [made(True), made(False, MONITORING)] == [True, False]


def test_those_of_the_webhook_are_made_only_where_there_is_one() -> None:
    with_none = one(render(api_versions=[MONITORING]), "PrometheusRule")
    said = {rule["alert"] for group in with_none["spec"]["groups"] for rule in group["rules"] if "alert" in rule}
    of_the_webhook = {alert_of(key) for key in KEYS if key.startswith("injection")}
    assert set(alerts()) - said == of_the_webhook


def test_limits_patience_severity_and_labels_are_values() -> None:
    changed = {"attemptErrors": {"ratio": 0.42, "minAttempts": 1000000, "for": "1h", "severity": "critical"}}
    rule = alerts(alerts=changed, alertLabels={"team": "platform"}, window="30m")["ModelSidecarAttemptErrors"]
    assert "> 0.42" in rule["expr"]
    assert ">= 1e+06" in rule["expr"] or ">= 1000000" in rule["expr"]
    assert (rule["for"], rule["labels"]) == ("1h", {"severity": "critical", "team": "platform"})
    assert "[30m]" in json.dumps(rules(window="30m"))
    assert "[10m]" not in json.dumps(rules(window="30m"))


def test_an_alert_can_be_switched_off() -> None:
    assert set(alerts()) - set(alerts(alerts={"absent": {"enabled": False}})) == {"ModelSidecarAbsent"}


@pytest.mark.parametrize(
    "values",
    [
        {"alerts": {"noSuchAlert": {"enabled": False}}},
        {"alerts": {"absent": {"after": "5m"}}},
        {"alerts": {"absent": None}},
        {"alerts": {"modelDrift": {"window": None}}},
        {"alerts": {"absent": {"for": "5 minutes"}}},
        {"alerts": {"latencyP99": {"seconds": 120}}},  # beyond the last bucket: it could never fire
        {"enabled": "yes"},
    ],
)
def test_what_makes_no_sense_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(RenderError):
        rules(**values)


def test_queries_of_the_runbook_are_good_and_of_metrics_that_exist(tmp_path: Path) -> None:
    queries = re.findall(r"```promql\n(.+?)\n```", RUNBOOK.read_text(), re.DOTALL)
    assert len(queries) > len(KEYS) // 2
    file = tmp_path / "rules.yaml"
    records = [{"record": f"runbook:{n}", "expr": query} for n, query in enumerate(queries)]
    file.write_text(yaml.safe_dump({"groups": [{"name": "runbook", "rules": records}]}))
    said = promtool("check", "rules", str(file))
    assert said.returncode == 0, said.stdout + said.stderr
    known = {name for name, _ in samples()}
    for query in queries:
        assert unknown(query, {}) == []
        assert set(re.findall(r"\b(?:model_sidecar|sidecar|gen_ai)_\w+(?=[\[{ )]|$)", query)) - LABELS <= known, query


def test_commands_of_the_runbook_exist() -> None:
    verbs = set(re.findall(r"kubectl model-sidecar ([a-z]+)", RUNBOOK.read_text()))
    assert verbs <= set(VERBS)
    assert {"status", "rollback", "stop", "history"} <= verbs


def test_links_of_the_runbook_lead_somewhere() -> None:
    text = RUNBOOK.read_text()
    for page, anchor in re.findall(r"\]\(([\w./-]*)(?:#([\w-]+))?\)", text):
        other = (RUNBOOK.parent / page).read_text() if page else text
        anchors = {re.sub(r"[^\w -]", "", title).strip().lower().replace(" ", "-") for title in
                   re.findall(r"^#+ (.+)$", other, re.MULTILINE)}  # fmt: skip
        assert not anchor or anchor in anchors, (page, anchor)
