"""Reviews as the API server sends them, and all else that may arrive."""

from __future__ import annotations

import asyncio
import base64
import copy
import json
import logging
from typing import Any
from unittest import mock

import pytest
from aiohttp import StreamReader
from aiohttp.base_protocol import BaseProtocol
from aiohttp.test_utils import make_mocked_request
from hypothesis import given
from hypothesis import strategies as st

from sidecar.kube.injection import webhook
from sidecar.kube.injection.decide import Decision
from sidecar.kube.injection.metrics import Metrics
from sidecar.kube.injection.review import API_VERSION, BadReviewError, allowed, answer, read
from sidecar.kube.injection.webhook import Webhook
from tests.kube.webhook_kit import NATIVE, Json, applied, pod_of, review


def body_of(document: Any) -> bytes:
    return json.dumps(document).encode()


def without(document: Json, *path: str) -> Json:
    """A copy that lacks one member."""
    changed = copy.deepcopy(document)
    at = changed
    for part in path[:-1]:
        at = at[part]
    del at[path[-1]]
    return changed


def refused(body: bytes) -> str:
    with pytest.raises(BadReviewError) as caught:
        read(body)
    assert caught.value.status == 400
    return str(caught.value)


# --- reading ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["deployment", "job", "daemonset", "bare"])
def test_a_review_of_a_new_pod_is_read(name: str) -> None:
    found = read(body_of(review(name)))
    assert found.not_ours is None
    assert found.pod == pod_of(name)
    assert found.uid == review(name)["request"]["uid"]


def test_a_pod_of_a_controller_has_no_name_yet() -> None:
    found = read(body_of(review("deployment")))
    assert (found.name, found.generate_name) == ("", "shop-6d5f8b7c9d-")


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("update", "Only pods that are being created"),
        ("delete", "Only pods that are being created"),
        ("ephemeral", "a part of a Pod"),
        ("configmap", "not a Pod"),
    ],
)
def test_other_reviews_are_not_ours(name: str, why: str) -> None:
    assert why in (read(body_of(review(name))).not_ours or "")


GOOD = review("bare")
MALFORMED = {
    "nothing": (b"", "not valid JSON"),
    "half of one": (body_of(GOOD)[:-20], "not valid JSON"),
    "too deep": (b"[" * 100_000, "not valid JSON"),
    "half a surrogate pair": (b'{"kind": "\\ud800"}', "not valid JSON"),
    "a list": (b"[]", "it is no JSON object"),
    "another kind": (body_of(GOOD | {"kind": "ConversionReview"}), "its `kind` is another"),
    "the old version": (body_of(GOOD | {"apiVersion": "admission.k8s.io/v1beta1"}), "admissionReviewVersions: [v1]"),
    "no version": (body_of(without(GOOD, "apiVersion")), "`apiVersion` is not admission.k8s.io/v1"),
    "no request": (body_of(without(GOOD, "request")), "no `request`"),
    "request is a text": (body_of(GOOD | {"request": "x"}), "request: Expected `object`, got `str`"),
    "no uid": (body_of(without(GOOD, "request", "uid")), "request: Object missing required field `uid`"),
    "empty uid": (body_of(GOOD | {"request": GOOD["request"] | {"uid": ""}}), "request.uid is empty"),
    "uid is a number": (body_of(GOOD | {"request": GOOD["request"] | {"uid": 7}}), "request.uid: Expected `str`"),
    "no operation": (body_of(without(GOOD, "request", "operation")), "missing required field `operation`"),
    "no object": (body_of(without(GOOD, "request", "object")), "no `request.object`"),
    "object is null": (body_of(GOOD | {"request": GOOD["request"] | {"object": None}}), "no `request.object`"),
    "object is a text": (body_of(GOOD | {"request": GOOD["request"] | {"object": "x"}}), "request.object: Expected"),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_what_is_no_review_is_refused_with_what_is_wrong(name: str) -> None:
    body, words = MALFORMED[name]
    assert words in refused(body)


# --- answering -------------------------------------------------------------------------------------------------------


def test_a_patch_is_sent_as_kubernetes_wants_it() -> None:
    ops = [{"op": "add", "path": "/metadata/labels", "value": {"a": "b"}}]
    response = json.loads(allowed("u-1", ops))
    assert response == {
        "apiVersion": API_VERSION,
        "kind": "AdmissionReview",
        "response": {
            "uid": "u-1",
            "allowed": True,
            "patchType": "JSONPatch",
            "patch": base64.b64encode(b'[{"op":"add","path":"/metadata/labels","value":{"a":"b"}}]').decode(),
        },
    }


def test_without_changes_there_is_no_patch() -> None:
    assert json.loads(allowed("u-1"))["response"] == {"uid": "u-1", "allowed": True}


def test_a_denial_says_why() -> None:
    response = json.loads(answer(read(body_of(GOOD)), Decision("denied", "Because.", "pod")))["response"]
    assert (response["allowed"], response["uid"]) == (False, GOOD["request"]["uid"])
    assert response["status"] == {"code": 403, "reason": "Forbidden", "message": "Because."}


def test_warnings_are_as_short_as_kubernetes_asks_and_can_be_printed() -> None:
    sentence = f"The container {'x' * 300}\x1b[31m\n says: {'word ' * 40}"
    lines = json.loads(allowed("u", None, (sentence, "Second.")))["response"]["warnings"]
    assert all(len(line) <= 120 and line.isprintable() for line in lines)
    assert lines[-1] == "Second."
    assert "".join(lines).count("word") == 40


# --- the handler -----------------------------------------------------------------------------------------------------


@pytest.fixture
def hook() -> Webhook:
    return made()


def made() -> Webhook:
    found = Webhook(Metrics())
    found.template = NATIVE
    return found


async def sent(hook: Webhook, body: bytes, path: str, method: str = "POST", kind: str = "application/json") -> Any:
    """The handler's answer to a request."""
    stream = StreamReader(BaseProtocol(asyncio.get_running_loop()), 2**24, loop=asyncio.get_running_loop())
    stream.feed_data(body)
    stream.feed_eof()
    return await hook.handle(make_mocked_request(method, path, {"Content-Type": kind}, payload=stream))


def said(response: Any) -> str:
    """The sentence of a Status."""
    status = json.loads(response.body)
    assert (status["kind"], status["apiVersion"], status["code"]) == ("Status", "v1", response.status)
    return str(status["message"])


async def test_a_pod_is_injected(hook: Webhook) -> None:
    response = await sent(hook, body_of(review("deployment")), "/inject/pod?timeout=10s")
    patch = json.loads(base64.b64decode(json.loads(response.body)["response"]["patch"]))
    after = applied(pod_of("deployment"), patch)
    assert after["spec"]["initContainers"][0]["name"] == "model-sidecar"


async def test_a_dry_run_is_answered_like_any_other(hook: Webhook) -> None:
    dry = copy.deepcopy(review("bare"))
    dry["request"]["dryRun"] = True
    first = await sent(hook, body_of(dry), "/inject/pod")
    second = await sent(hook, body_of(review("bare")), "/inject/pod")
    patches = [json.loads(response.body)["response"]["patch"] for response in (first, second)]
    assert patches[0] == patches[1]


@pytest.mark.parametrize(
    ("path", "method", "kind", "status"),
    [
        ("/", "POST", "application/json", 404),
        ("/inject/pods", "POST", "application/json", 404),
        ("/inject/pod", "GET", "application/json", 405),
        ("/inject/pod", "POST", "text/plain", 415),
        ("/inject/pod", "POST", "application/json; charset=utf-8", 200),
    ],
)
async def test_what_is_no_review_request(hook: Webhook, path: str, method: str, kind: str, status: int) -> None:
    response = await sent(hook, body_of(GOOD), path, method, kind)
    assert response.status == status
    assert response.status == 200 or said(response).endswith(".")


async def test_a_review_that_is_too_large_is_refused(hook: Webhook) -> None:
    assert (await sent(hook, b" " * (3 * 1024**2 + 1), "/inject/pod")).status == 413


async def test_bodies_that_are_read_at_once_have_one_limit(hook: Webhook, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook, "HELD_BYTES", 100_000)
    assert (await sent(hook, b" " * 100_001, "/inject/pod")).status == 503
    assert (await sent(hook, body_of(GOOD), "/inject/pod")).status == 200  # what was held is free again


async def test_a_pod_of_a_wrong_shape_is_refused_with_its_place(hook: Webhook) -> None:
    bad = copy.deepcopy(GOOD)
    bad["request"]["object"]["spec"]["containers"][0]["env"] = "A=1"
    response = await sent(hook, body_of(bad), "/inject/pod")
    assert (response.status, "request.object.spec.containers[0].env: " in said(response)) == (400, True)


async def test_the_log_tells_each_decision_and_no_values(hook: Webhook, caplog: pytest.LogCaptureFixture) -> None:
    secret = copy.deepcopy(review("deployment"))
    secret["request"]["object"]["spec"]["containers"][0]["env"].append({"name": "KEY", "value": "sk-hidden"})
    with caplog.at_level(logging.INFO, "sidecar.inject"):
        await sent(hook, body_of(secret), "/inject/namespace")
    (record,) = caplog.records
    fields = record.fields  # type: ignore[attr-defined]
    assert fields.pop("ms") >= 0
    assert fields == {
        "result": "injected",
        "reason": "The pod got the sidecar.",
        "asked_by": "pod",
        "namespace": secret["request"]["namespace"],
        "name": "",
        "generate_name": "shop-6d5f8b7c9d-",
        "uid": secret["request"]["uid"],
        "dry_run": False,
    }


# --- a fault of our own ----------------------------------------------------------------------------------------------


@pytest.fixture
def faulty(hook: Webhook, monkeypatch: pytest.MonkeyPatch) -> Webhook:
    monkeypatch.setattr(webhook, "decide", mock.Mock(side_effect=ZeroDivisionError("sk-hidden")))
    return hook


async def test_a_pod_that_asked_is_refused_with_the_faults_name(faulty: Webhook, caplog: Any) -> None:
    response = await sent(faulty, body_of(GOOD), "/inject/pod")
    assert response.status == 500
    assert "by a fault of its own (ZeroDivisionError, " in said(response)
    assert "sk-hidden" not in response.text
    fault = said(response).rsplit("look for ", 1)[1].split()[0]
    assert any(f"fault {fault}" in record.getMessage() and record.exc_info for record in caplog.records)


async def test_a_pod_whose_namespace_asked_goes_through_marked(faulty: Webhook) -> None:
    response = json.loads((await sent(faulty, body_of(GOOD), "/inject/namespace")).body)["response"]
    assert response["allowed"] is True
    after = applied(pod_of("bare"), json.loads(base64.b64decode(response["patch"])))
    assert "ZeroDivisionError" in after["metadata"]["annotations"]["model-sidecar.io/skipped"]
    assert "ZeroDivisionError" in response["warnings"][0]


# --- laws ------------------------------------------------------------------------------------------------------------

leaves = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(max_size=8)
names = st.sampled_from(
    ("spec", "metadata", "containers", "initContainers", "env", "envFrom", "name", "value", "ports", "labels", "os")
)
anything = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names | st.text(max_size=4), inner, max_size=5)
)


def paths_of(document: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a document."""
    found = [path]
    items = (
        document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    )
    for key, value in items:
        found += paths_of(value, (*path, key))
    return found


SAMPLES = [review(name) for name in ("deployment", "bare", "job", "update")]
PLACES = [(sample, path) for sample in SAMPLES for path in paths_of(sample) if path and "managedFields" not in path]


async def status_of(body: bytes, path: str) -> int:
    response = await sent(made(), body, path)
    if response.status == 200:
        assert json.loads(response.body)["response"]["uid"]
    else:
        assert said(response).endswith(".")
    return int(response.status)


@given(st.sampled_from(PLACES), anything, st.sampled_from(["/inject/pod", "/inject/namespace"]))
def test_a_review_with_anything_in_any_place_is_answered_or_refused(
    place: tuple[Json, tuple[Any, ...]], value: Any, path: str
) -> None:
    document, where = copy.deepcopy(place[0]), place[1]
    at: Any = document
    for part in where[:-1]:
        at = at[part]
    at[where[-1]] = value
    assert asyncio.run(status_of(body_of(document), path)) in (200, 400)


@given(anything)
def test_any_pod_is_answered_or_refused(value: Any) -> None:
    document = GOOD | {"request": GOOD["request"] | {"object": value}}
    assert asyncio.run(status_of(body_of(document), "/inject/namespace")) in (200, 400)


@given(st.binary(max_size=200))
def test_any_bytes_are_refused(body: bytes) -> None:
    assert asyncio.run(status_of(body, "/inject/pod")) == 400
