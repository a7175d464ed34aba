"""AdmissionReview `admission.k8s.io/v1`: bytes → request, decision → bytes.

Decides: what a well-formed review is, and how each decision is said to the API server. A review that can't be read is
refused with a sentence that names the fault and repeats none of its text.
Does not decide: anything about pods.
"""

from __future__ import annotations

import base64
import textwrap
from dataclasses import dataclass
from typing import Any

import msgspec
import orjson

from sidecar.kube.injection.decide import Decision
from sidecar.kube.injection.environment import Op
from sidecar.telemetry.lines import safe

API_VERSION = "admission.k8s.io/v1"
KIND = "AdmissionReview"
MAX_BYTES = 3 * 1024 * 1024
"""What the API server itself takes of a client's object at most."""
WARNING_LENGTH = 120
"""Kubernetes asks for no more; beyond 256 it cuts."""


_REASONS = {
    400: "BadRequest",
    404: "NotFound",
    405: "MethodNotAllowed",
    408: "Timeout",
    413: "RequestEntityTooLarge",
    415: "UnsupportedMediaType",
    500: "InternalError",
    503: "ServiceUnavailable",
}


class BadReviewError(Exception):
    """A request that gets no AdmissionReview back; the message is a sentence for the answer's body."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


class _Kind(msgspec.Struct, frozen=True):
    kind: str
    group: str = ""
    version: str = ""


class _Request(msgspec.Struct, frozen=True, rename="camel"):
    uid: str
    kind: _Kind
    operation: str
    name: str | None = None
    namespace: str | None = None
    sub_resource: str | None = None
    object: dict[str, Any] | None = None
    dry_run: bool | None = None


@dataclass(frozen=True, slots=True)
class Review:
    """What the API server asks. `not_ours` says why it needs no decision, None if it does."""

    uid: str
    namespace: str
    name: str
    generate_name: str
    dry_run: bool
    pod: dict[str, Any]
    not_ours: str | None = None


def read(body: bytes | bytearray) -> Review:
    """The review in a request's body. Raises BadReviewError."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise BadReviewError(400, "The body is not valid JSON.") from None
    if not isinstance(document, dict):
        raise BadReviewError(400, f"The body is not an {KIND}: it is no JSON object.")
    if document.get("kind") != KIND:
        raise BadReviewError(400, f"The body is not an {KIND}: its `kind` is another.")
    if document.get("apiVersion") != API_VERSION:
        raise BadReviewError(400, f"`apiVersion` is not {API_VERSION}: set `admissionReviewVersions: [v1]`.")
    if document.get("request") is None:
        raise BadReviewError(400, "The review has no `request`.")
    try:
        request = msgspec.convert(document["request"], _Request)
    except msgspec.ValidationError as error:
        wrong, _, place = str(error).partition(" - at `$")
        raise BadReviewError(400, f"request{place.rstrip('`')}: {wrong}.") from None
    if not request.uid:
        raise BadReviewError(400, "request.uid is empty: the answer could not be told from another.")
    return _of(request)


def _of(request: _Request) -> Review:
    not_ours = None
    if (request.kind.group, request.kind.kind) != ("", "Pod"):
        not_ours = "The object is not a Pod."
    elif request.sub_resource:
        not_ours = "The request is about a part of a Pod."
    elif request.operation != "CREATE":
        not_ours = "Only pods that are being created can be injected."
    elif request.object is None:
        raise BadReviewError(400, "The review has no `request.object`.")
    pod = request.object or {}
    metadata = pod.get("metadata")
    names = metadata if isinstance(metadata, dict) else {}
    return Review(
        uid=request.uid,
        namespace=request.namespace or _text(names.get("namespace")),
        name=request.name or _text(names.get("name")),
        generate_name=_text(names.get("generateName")),
        dry_run=bool(request.dry_run),
        pod=pod,
        not_ours=not_ours,
    )


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def allowed(uid: str, ops: list[Op] | None = None, warnings: tuple[str, ...] = ()) -> bytes:
    """The answer that lets the pod through, changed by `ops`."""
    response: dict[str, Any] = {"uid": uid, "allowed": True}
    if ops:
        response |= {"patchType": "JSONPatch", "patch": base64.b64encode(orjson.dumps(ops)).decode()}
    return _answer(response, warnings)


def answer(review: Review, decision: Decision) -> bytes:
    """The AdmissionReview that says a decision. A denial is Forbidden (403), as other admission webhooks say it."""
    if decision.result != "denied":
        return allowed(review.uid, decision.ops, decision.warnings)
    status = {"code": 403, "reason": "Forbidden", "message": decision.reason}
    return _answer({"uid": review.uid, "allowed": False, "status": status}, decision.warnings)


def failure(code: int, sentence: str) -> bytes:
    """The body of an answer that is no AdmissionReview, as a Status.

    Of a plain text the API server would show the user no more than "rejected our request for an unknown reason".
    """
    status = {"status": "Failure", "code": code, "reason": _REASONS[code], "message": sentence}
    return orjson.dumps({"apiVersion": "v1", "kind": "Status", "metadata": {}, **status})


def _answer(response: dict[str, Any], warnings: tuple[str, ...]) -> bytes:
    lines = [line for warning in warnings for line in _lines(warning)]
    if lines:
        response["warnings"] = lines
    return orjson.dumps({"apiVersion": API_VERSION, "kind": KIND, "response": response})


def _lines(warning: str) -> list[str]:
    """A sentence in pieces that a client prints whole."""
    return textwrap.wrap(safe(warning, 1000), WARNING_LENGTH)
