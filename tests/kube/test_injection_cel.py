"""YAML as CEL: the expressions that put the sidecar into a pod. tests/cluster asks a real API server what they make."""

from __future__ import annotations

from functools import cache
from typing import Any

import celpy
import pytest
from helm_python import Chart
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.kube import kit
from tests.kube.injection_cases import chart_of

TYPE = "Object.spec.initContainers"
TEMPLATE = """\
apiVersion: v1
kind: ConfigMap
metadata: {name: cel}
data:
  block: |-
    {{- include "model-sidecar.cel" (dict "value" .Values.value "type" .Values.type) | nindent 4 }}
"""

ENVIRONMENT = celpy.Environment()  # the first one raises the recursion limit, which Hypothesis wants left alone


@cache
def _chart() -> Chart:
    return chart_of({"cel.yaml": TEMPLATE})


def cel(value: Any, type_name: str = TYPE) -> str:
    """The expression for a value, as it comes out of a block of YAML."""
    made = kit.render({"value": value, "type": type_name}, chart=_chart())
    text: str = kit.one(made, "ConfigMap")["data"]["block"]
    return text


def evaluated(expression: str) -> Any:
    return ENVIRONMENT.program(ENVIRONMENT.compile(expression)).evaluate({})


def test_an_object_is_written_with_the_way_to_it_as_its_type() -> None:
    probe = {"httpGet": {"path": "/readyz", "port": "sidecar-probe"}}
    inner = f'httpGet: {TYPE}.startupProbe.httpGet{{path: "/readyz", port: "sidecar-probe"}}'
    assert cel({"startupProbe": probe}) == f"{TYPE}{{startupProbe: {TYPE}.startupProbe{{{inner}}}}}"


def test_the_items_of_a_list_have_the_lists_type() -> None:
    expected = f'[{TYPE}.env{{name: "A"}}, {TYPE}.env{{name: "B"}}]'
    assert cel({"env": [{"name": "A"}, {"name": "B"}]}) == f"{TYPE}{{env: {expected}}}"


def test_a_map_with_free_keys_has_no_type() -> None:
    assert cel({"resources": {"limits": {"memory": "1Gi"}}}) == (
        f'{TYPE}{{resources: {TYPE}.resources{{limits: {{"memory": "1Gi"}}}}}}'
    )


def test_values_of_a_map_with_free_keys_are_strings() -> None:
    assert '{"cpu": "2", "example.com/gpu": "1"}' in cel({"resources": {"limits": {"cpu": 2, "example.com/gpu": 1}}})


def test_an_object_without_fields_keeps_its_type() -> None:
    assert (
        cel({"emptyDir": {}}, "Object.spec.volumes") == "Object.spec.volumes{emptyDir: Object.spec.volumes.emptyDir{}}"
    )


@pytest.mark.parametrize("number", [0, 4010, 1_000_000, 65_532_000_000, -1])
def test_whole_numbers_are_written_in_full(number: int) -> None:
    assert cel({"runAsUser": number}) == f"{TYPE}{{runAsUser: {number}}}"


def test_truth_values_and_empty_lists_stay() -> None:
    assert cel({"stdin": True, "tty": False, "args": []}) == f"{TYPE}{{args: [], stdin: true, tty: false}}"


@given(st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), max_size=40))
@settings(max_examples=200, deadline=None)
def test_any_text_comes_out_as_it_went_in(text: str) -> None:
    assert evaluated(cel([text])) == [text]


UNKIND = [
    "\x85",
    "\u2028",
    "a\nb\tc\r",
    "\x07\x1b\x7f\x9f\ufeff\uffff",
    '"',
    "\\",
    "{{ .x }}",
    "%s",
    "$(A)",
    "'",
    "</b>&",
]


@pytest.mark.parametrize("text", UNKIND)
def test_unkind_text_comes_out_as_it_went_in(text: str) -> None:
    assert evaluated(cel([text])) == [text]


def test_keys_are_text_too() -> None:
    assert evaluated(cel({"labels": {'a"b': "c"}}).partition("labels: ")[2][:-1]) == {'a"b': "c"}


def test_an_empty_value_is_refused_with_its_place() -> None:
    with pytest.raises(kit.RenderError, match=rf"{TYPE} is empty \(null\)"):
        cel([None])


def test_a_fraction_is_refused_with_its_place() -> None:
    with pytest.raises(kit.RenderError, match=rf"{TYPE}.replicas is 1.5: a pod knows whole numbers only"):
        cel({"replicas": 1.5})
