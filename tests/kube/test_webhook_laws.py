"""Laws of the patch, for any pod: nothing of the app's changes but what is named, and twice is once."""

from __future__ import annotations

import copy
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.kube.injection.decide import decide
from sidecar.kube.injection.template import Template
from tests.kube.webhook_kit import CLASSIC, LOOPBACK, NATIVE, Json, applied

SPELLINGS = ("NO_PROXY", "no_proxy")
OURS = {"NO_PROXY": ",".join(LOOPBACK), "no_proxy": ",".join(LOOPBACK), "OPENAI_BASE_URL": "http://127.0.0.1:4010/v1"}
SHARED = {"NO_PROXY": ".shared", "HTTP_PROXY": "http://shared:1", "OPENAI_BASE_URL": "http://own/v1", "A": "shared"}

variables = st.sampled_from(
    ("A", "B", "HTTP_PROXY", "https_proxy", "ALL_PROXY", "NO_PROXY", "no_proxy", "OPENAI_BASE_URL")
)
values = st.sampled_from(("", "x", "$(A)", "$(B),y", ".svc", "*", "localhost, .svc", "127.0.0.1,localhost,::1"))
entries = st.one_of(
    st.builds(lambda name, value: {"name": name, "value": value}, variables, values),
    st.builds(lambda name: {"name": name}, variables),
    st.builds(lambda n: {"name": n, "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}, variables),
)
sources = st.sampled_from(
    (
        {"configMapRef": {"name": "shared"}},
        {"configMapRef": {"name": "model-sidecar-env"}, "prefix": "X_"},
        {"secretRef": {"name": "model-sidecar-env"}},
    )
)


def maybe(items: st.SearchStrategy[Any], **more: Any) -> st.SearchStrategy[Any]:
    """A list, an empty one, or null."""
    return st.none() | st.lists(items, max_size=4, **more)


@st.composite
def containers(draw: st.DrawFn, prefix: str) -> list[Json]:
    found = []
    for index in range(draw(st.integers(0, 3))):
        container: Json = {"name": f"{prefix}-{index}", "image": "app:1"}
        for name, strategy in (("env", maybe(entries)), ("envFrom", maybe(sources)), ("command", maybe(st.text()))):
            if draw(st.booleans()):
                container[name] = draw(strategy)
        found.append(container)
    return found


keys = st.sampled_from(("app", "a~b", "a/b", "model-sidecar.io/injected", "model-sidecar.io/version", "~1"))
texts = st.none() | st.dictionaries(keys, st.sampled_from(("", "true", "x")), max_size=3)


@st.composite
def pods(draw: st.DrawFn) -> Json:
    pod: Json = {"apiVersion": "v1", "kind": "Pod", "spec": {"containers": draw(containers("app"))}}
    for place, name, strategy in (
        ("spec", "initContainers", st.none() | containers("init")),
        ("spec", "volumes", maybe(st.sampled_from(({"name": "a"}, {"name": "b", "emptyDir": {}})))),
        ("metadata", "labels", texts),
        ("metadata", "annotations", texts),
        ("metadata", "finalizers", maybe(st.text())),
    ):
        if draw(st.booleans()):
            pod.setdefault(place, {})[name] = draw(strategy)
    return pod


templates = pytest.mark.parametrize("template", [NATIVE, CLASSIC], ids=["native", "classic"])


def injected(raw: Json, template: Template) -> Json | None:
    decision = decide(raw, template, "pod")
    assert decision.result in ("injected", "unchanged")
    return applied(raw, decision.ops) if decision.result == "injected" else None


def without_ours(pod: Json, template: Template) -> Json:
    """The pod with what the injection is said to add taken out again; lists and mappings that get empty go too."""
    pod = copy.deepcopy(pod)
    spec, metadata = pod.get("spec") or {}, pod.get("metadata") or {}
    for name in ("containers", "initContainers"):
        spec[name] = [c for c in spec.get(name) or [] if c["name"] != "model-sidecar"]
        for container in spec[name]:
            container["env"] = [e for e in container.get("env") or [] if e["name"] not in SPELLINGS]
            container["envFrom"] = [s for s in container.get("envFrom") or [] if s != template.envFrom]
    volumes = list(template.volumes)
    spec["volumes"] = [volume for volume in spec.get("volumes") or [] if volume not in volumes]
    for name, ours in (("labels", template.labels), ("annotations", template.annotations)):
        metadata[name] = {k: v for k, v in (metadata.get(name) or {}).items() if k not in ours}
    pod["metadata"] = metadata
    return _dense(pod)


def _dense(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: d for k, v in value.items() if (d := _dense(v)) not in (None, [], {})}
    return [_dense(item) for item in value] if isinstance(value, list) else value


def effective(container: Json) -> dict[str, str]:
    """The environment that kubelet would make of it: `envFrom`, then `env` in order, with references expanded."""
    known: dict[str, str] = {}
    for source in container.get("envFrom") or []:
        name = (source.get("configMapRef") or {}).get("name")
        data = {"shared": SHARED, "model-sidecar-env": OURS}.get(name, {})
        known |= {source.get("prefix", "") + key: value for key, value in data.items()}
    for entry in container.get("env") or []:
        if "valueFrom" in entry:
            known[entry["name"]] = "secret"
        else:
            text = entry.get("value", "")
            known[entry["name"]] = re.sub(r"\$\((\w+)\)", lambda m: known.get(m[1], m[0]), text)
    return known


def pairs(before: Json, after: Json) -> list[tuple[Json, Json]]:
    """Each container of the app, before and after."""
    found = {c["name"]: c for name in ("containers", "initContainers") for c in after["spec"].get(name) or []}
    listed = [c for name in ("containers", "initContainers") for c in before["spec"].get(name) or []]
    return [(container, found[container["name"]]) for container in listed]


@templates
@given(pods())
def test_nothing_changes_but_the_named_additions(template: Template, raw: Json) -> None:
    after = injected(raw, template)
    if after is not None:
        assert without_ours(after, template) == without_ours(raw, template)


@templates
@given(pods())
def test_there_is_one_sidecar_and_it_is_first(template: Template, raw: Json) -> None:
    after = injected(raw, template)
    if after is not None:
        first = after["spec"]["initContainers" if template.native else "containers"][0]
        assert first == template.container
        everybody = (after["spec"].get("initContainers") or []) + after["spec"]["containers"]
        assert [c["name"] for c in everybody].count("model-sidecar") == 1


@templates
@given(pods())
def test_twice_is_once(template: Template, raw: Json) -> None:
    after = injected(raw, template)
    if after is not None:
        again = decide(after, template, "namespace")
        assert (again.result, again.ops) == ("unchanged", [])


@templates
@given(pods(), containers("late"))
def test_containers_that_come_later_end_as_if_they_had_been_there(template: Template, raw: Json, late: Json) -> None:
    after = injected(raw, template)
    if after is None:
        return
    after["spec"]["containers"] += copy.deepcopy(late)
    topped_up = applied(after, decide(after, template, "pod").ops)
    raw["spec"]["containers"] += late
    at_once = injected(raw, template)
    assert at_once is not None
    assert topped_up["spec"]["containers"] == at_once["spec"]["containers"]


@templates
@given(pods())
def test_what_the_app_set_keeps_its_value(template: Template, raw: Json) -> None:
    after = injected(raw, template)
    if after is None:
        return
    for container, later in pairs(raw, after):
        had, has = effective(container), effective(later)
        tainted = {e["name"] for e in container.get("env") or [] if "PROXY" in e.get("value", "").upper()}
        for name in had.keys() - {*SPELLINGS} - tainted:
            old, new = had[name], has[name]
            if "$(" not in old:  # a reference that had nothing to refer to
                assert new == old, name


@templates
@given(pods())
def test_a_proxy_is_never_asked_for_loopback(template: Template, raw: Json) -> None:
    after = injected(raw, template)
    if after is None:
        return
    reached = raw["spec"]["containers"] + ((raw["spec"].get("initContainers") or []) if template.native else [])
    reached_names = {container["name"] for container in reached}
    for container, later in pairs(raw, after):
        env = container.get("env") or []
        if container["name"] not in reached_names or not may_have_a_proxy(container):
            continue
        elsewhere = {e["name"]: "valueFrom" in e for e in env}
        seen = effective(later)
        for spelling in SPELLINGS:
            if not elsewhere.get(spelling):
                listed = hosts(seen[spelling])
                assert listed == {"*"} or listed >= set(LOOPBACK), (spelling, seen)


@templates
@given(pods())
def test_no_program_loses_a_host_that_the_app_listed(template: Template, raw: Json) -> None:
    after = injected(raw, template)
    if after is None:
        return
    for container, later in pairs(raw, after):
        if not may_have_a_proxy(container):
            continue
        had, has = effective(container), effective(later)
        for order in (SPELLINGS, SPELLINGS[::-1]):  # as a program looks for them
            old = next((had[spelling] for spelling in order if spelling in had), "")
            new = next((has[spelling] for spelling in order if spelling in has), "")
            if "$(" not in old:
                assert hosts(new) == {"*"} or hosts(old) <= hosts(new), order


def may_have_a_proxy(container: Json) -> bool:
    """By `env`, or by a source of its own, which can't be seen."""
    env = container.get("env") or []
    return any("PROXY" in entry["name"].upper() for entry in env) or bool(container.get("envFrom"))


def hosts(value: str) -> set[str]:
    return {part.strip() for part in value.split(",")} - {""}
