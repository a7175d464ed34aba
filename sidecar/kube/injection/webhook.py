"""HTTP: reviews in, AdmissionReviews out; and health, for the kubelet and Prometheus.

Decides: how a request that is no review is refused (a 4xx with a sentence), and what becomes of a pod when our
own code fails: one that asked by itself is refused with the fault's id (HTTP 500: the webhook's `failurePolicy`
decides), one whose namespace asked goes through without a sidecar, marked and warned of. Both are named in the log.
Does not decide: what happens to pods (`decide`) and how reviews look (`review`).
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Callable, Mapping
from typing import Any

from aiohttp import web
from aiohttp.web_request import BaseRequest

from sidecar.kube.injection import review as reviews
from sidecar.kube.injection.decide import AskedBy, Decision, decide, skipped_ops
from sidecar.kube.injection.metrics import Metrics
from sidecar.kube.injection.podview import ShapeError
from sidecar.kube.injection.review import MAX_BYTES, BadReviewError, Review
from sidecar.kube.injection.template import Template
from sidecar.telemetry.lines import safe

log = logging.getLogger("sidecar.inject")

PATHS: Mapping[str, AskedBy] = {"/inject/pod": "pod", "/inject/namespace": "namespace"}
BODY_S = 10.0
"""For a whole body. The API server gives a webhook 10 seconds by default, 30 at most."""


MIB = 1024**2
HELD_BYTES = 32 * MIB
"""Of all bodies that are being read at once: a hundred slow clients must not take all the memory."""


class Webhook:
    """The handler of the TLS listener. `template` is replaced when its file changes."""

    def __init__(self, metrics: Metrics) -> None:
        self.template: Template
        self.in_flight = 0
        self.idle = asyncio.Event()
        self.idle.set()
        self.stopping = False
        self._metrics = metrics
        self._held = 0  # bytes of bodies that are being read

    async def handle(self, request: BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        began = time.monotonic()
        self.in_flight += 1
        self.idle.clear()
        try:
            asked_by = PATHS.get(request.path)
            try:
                if asked_by is None:
                    raise BadReviewError(404, f"There is nothing here: reviews go to {' or '.join(PATHS)}.")
                response = await self._review(request, asked_by, began)
            except BadReviewError as error:
                response = self._refuse(request, error, asked_by, began)
            if self.stopping:
                response.force_close()  # the API server's next review goes to another pod
            return response
        finally:
            self.in_flight -= 1
            if not self.in_flight:
                self.idle.set()

    async def _review(self, request: BaseRequest, asked_by: AskedBy, began: float) -> web.Response:
        review = reviews.read(await self._body(request))
        if review.not_ours is not None:
            decision = Decision("unchanged", review.not_ours, asked_by)
        else:
            try:
                decision = decide(review.pod, self.template, asked_by)
            except ShapeError as error:
                raise BadReviewError(400, f"{error}.") from None
            except Exception as error:  # noqa: BLE001 - whatever it is, the pod must not hang on it unnamed
                return self._failed(review, asked_by, error, began)
        self._tell(review, decision.asked_by, decision.result, decision.reason, began)
        return _json(reviews.answer(review, decision))

    async def _body(self, request: BaseRequest) -> bytearray:
        """The whole body of a POST of JSON. Raises BadReviewError."""
        if request.method != "POST":
            raise BadReviewError(405, "Reviews are sent by POST.")
        if request.content_type != "application/json":
            raise BadReviewError(415, "Reviews are sent as Content-Type application/json.")
        large = BadReviewError(413, f"The review is larger than {MAX_BYTES // MIB} MiB.")
        if (request.content_length or 0) > MAX_BYTES:
            raise large
        body = bytearray()
        try:
            async with asyncio.timeout(BODY_S):
                while part := await request.content.readany():
                    body += part
                    self._held += len(part)
                    if len(body) > MAX_BYTES:
                        raise large
                    if self._held > HELD_BYTES:
                        raise BadReviewError(
                            503, f"Reviews of more than {HELD_BYTES // MIB} MiB are being read already."
                        )
        except TimeoutError:
            raise BadReviewError(408, f"The review's body did not come within {BODY_S:g} s.") from None
        except web.RequestPayloadError:
            raise BadReviewError(400, "The review's body can't be read: its framing is broken.") from None
        finally:
            self._held -= len(body)  # from here on it is used without a wait, so by one review at a time
        return body

    def _failed(self, review: Review, asked_by: AskedBy, error: Exception, began: float) -> web.Response:
        fault = secrets.token_hex(4)
        name = type(error).__name__
        log.error("fault %s while deciding", fault, exc_info=error, extra={"fields": {"uid": safe(review.uid)}})
        self._tell(review, asked_by, "error", f"Fault {fault}: {name}.", began)
        seek = f"look for {fault} in the log of the model-sidecar injector"
        if asked_by == "pod":
            text = f"The sidecar injector failed on this pod, by a fault of its own ({name}, {fault}): {seek}."
            return _json(reviews.failure(500, text), 500)
        sentence = f"The pod has no sidecar, by a fault of the injector ({name}, {fault}): {seek}."
        return _json(reviews.allowed(review.uid, list(skipped_ops(review.pod, sentence)), (sentence,)))

    def _refuse(
        self, request: BaseRequest, error: BadReviewError, asked_by: AskedBy | None, began: float
    ) -> web.Response:
        if asked_by is not None:
            self._metrics.decided(asked_by, "malformed", time.monotonic() - began)
        fields = {"status": error.status, "path": safe(request.path), "peer": safe(str(request.remote))}
        log.warning("refused: %s", error, extra={"fields": fields})
        response = _json(reviews.failure(error.status, str(error)), error.status)
        if error.status == 405:
            response.headers["Allow"] = "POST"
        return response

    def _tell(self, review: Review, asked_by: AskedBy, result: str, reason: str, began: float) -> None:
        seconds = time.monotonic() - began
        self._metrics.decided(asked_by, result, seconds)
        fields: dict[str, Any] = {
            "result": result,
            "reason": reason,
            "asked_by": asked_by,
            "namespace": safe(review.namespace),
            "name": safe(review.name, 253),
            "generate_name": safe(review.generate_name, 253),
            "uid": safe(review.uid),
            "dry_run": review.dry_run,
            "ms": round(seconds * 1000, 2),
        }
        log.info("review", extra={"fields": fields})


def _json(body: bytes, status: int = 200) -> web.Response:
    return web.Response(status=status, body=body, content_type="application/json")


class Health:
    """The handler of the plain listener. `not_ready` says why no review should be sent here, None if one may."""

    def __init__(self, metrics: Metrics, not_ready: Callable[[], str | None]) -> None:
        self._metrics = metrics
        self._not_ready = not_ready

    async def handle(self, request: BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        if request.method not in ("GET", "HEAD"):
            return web.Response(status=405, text="Only GET.\n", headers={"Allow": "GET, HEAD"})
        if request.path == "/healthz":
            return web.json_response({"status": "ok"})
        if request.path == "/readyz":
            reason = self._not_ready()
            if reason is None:
                return web.json_response({"status": "ready"})
            return web.json_response({"status": "not ready", "reason": reason}, status=503)
        if request.path == "/metrics":
            body, kind = self._metrics.render()
            return web.Response(body=body, headers={"Content-Type": kind})
        return web.Response(status=404, text="Only /healthz, /readyz and /metrics.\n")
