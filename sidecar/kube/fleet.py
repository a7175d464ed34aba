"""The pods of a namespace and what each of their sidecars says, asked through the API server.

Decides: which pods count, and why one is behind. Does not decide: what follows from that.
"""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from sidecar.kube import names
from sidecar.kube.arguments import KubeError
from sidecar.kube.kubectl import MANAGER, Done, Kubectl
from sidecar.kube.scrape import Scraped, scraped

SCRAPE_LIMIT_S = 5.0
EXEC_LIMIT_S = 15.0
LOOK_GAP_S = 0.5
LEAST_LOOK_S = 15
"""The last look of a wait may take so long, however short the wait: a large fleet takes a while to be asked."""
LASTING = ("Forbidden", "NoKubectl", "TooOld", "Unauthorized", "NoContext")
"""Trouble that is no pod's own, and that another try won't mend."""
_PORT_NAME = "sidecar-probe"
Told = Callable[[int, int], None]
_OVER = ("Succeeded", "Failed")


@dataclass(frozen=True, slots=True)
class Pod:
    """`port` is where its sidecar answers kubelet; None: it has no sidecar. `state`: running, starting or ending."""

    name: str
    namespace: str
    port: int | None
    state: str
    ready: bool


@dataclass(frozen=True, slots=True)
class Standing:
    """A pod and its sidecar's metrics, or why there are none."""

    pod: Pod
    metrics: Scraped = field(default_factory=Scraped)
    trouble: str | None = None
    reason: str = ""

    def has(self, sha256: str) -> bool:
        """Whether it serves by that file, and not by a stand-in."""
        return self.trouble is None and self.metrics.sha256 == sha256 and not self.metrics.degraded


def pods_of(documents: Iterable[Mapping[str, Any]]) -> list[Pod]:
    """Pods by name, without those that are over."""
    found = (_pod(one) for one in documents if one.get("status", {}).get("phase") not in _OVER)
    return sorted(found, key=lambda pod: pod.name)


def _pod(document: Mapping[str, Any]) -> Pod:
    metadata, spec, status = document["metadata"], document["spec"], document.get("status", {})
    containers = [*spec.get("initContainers", ()), *spec.get("containers", ())]
    ours = next((one for one in containers if one["name"] == names.CONTAINER), None)
    port = None
    if ours is not None:
        named = (one["containerPort"] for one in ours.get("ports") or () if one.get("name") == _PORT_NAME)
        port = next(named, names.PROBE_PORT)
    state = "running" if status.get("phase") == "Running" else "starting"
    if metadata.get("deletionTimestamp"):
        state = "ending"
    ready = any(one["type"] == "Ready" and one["status"] == "True" for one in status.get("conditions") or ())
    return Pod(metadata["name"], metadata["namespace"], port, state, ready)


class Fleet:
    """The pods that the target's selector matches."""

    def __init__(self, kubectl: Kubectl) -> None:
        self._kubectl = kubectl
        self.target = kubectl.target
        self._silent: set[str] = set()

    async def pods(self) -> list[Pod]:
        """Raises KubeError."""
        return pods_of(await self._kubectl.read("pods", f"--selector={self.target.selector}"))

    async def refresh(self) -> None:
        """Bump an annotation of the pods: kubelet then looks at their mounts at once. Raises KubeError.

        To the microsecond: a value that is there already is no change, and wakes nobody.
        """
        at = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        words = ["annotate", "pods", f"--selector={self.target.selector}", f"{names.REFRESHED_AT}={at}"]
        try:
            await self._kubectl.ask(*words, "--overwrite", f"--field-manager={MANAGER}")
        except KubeError as error:
            if error.reason != "NotFound":  # a pod that went away meanwhile
                raise

    async def execute(self, pod: Pod, *words: str) -> Done:
        """A command in the sidecar's container. Raises KubeError where kubectl itself can't."""
        place = [*self.target.flags, f"--namespace={pod.namespace}", f"--container={names.CONTAINER}"]
        return await self._kubectl.run(["exec", pod.name, *place, "--", *words], limit_s=EXEC_LIMIT_S)

    async def last_error(self, pod: Pod) -> str | None:
        """Why a sidecar does not use its file, in its own words; None where it can't be asked."""
        try:
            done = await self.execute(pod, "sidecar", "admin", "pins")
            said = json.loads(done.out).get("last_error") if not done.code else None
        except (KubeError, ValueError):
            return None
        return said if isinstance(said, str) else None

    async def look(self, pods: Iterable[Pod], limit_s: float | None = None) -> list[Standing]:
        """What each says, within that time in all. A pod's trouble is its own.

        Raises KubeError where nobody may ask, or kubectl can't. Pods that were silent before are asked last: each
        takes the place of another until its time is over.
        """
        in_turn = sorted(pods, key=lambda pod: pod.name in self._silent)
        asked = [(pod, asyncio.ensure_future(self._standing(pod))) for pod in in_turn]
        if not asked:
            return []
        _, slow = await asyncio.wait([job for _, job in asked], timeout=limit_s)
        for job in slow:
            job.cancel()
        await asyncio.gather(*slow, return_exceptions=True)
        late = f"unreachable: no answer within {limit_s} s"
        found = [Standing(pod, trouble=late) if job in slow else job.result() for pod, job in asked]
        for one in found:
            if one.reason in LASTING or one.reason == "NoCluster":
                raise KubeError(one.trouble or "", one.reason)
        return sorted(found, key=lambda one: one.pod.name)

    async def _standing(self, pod: Pod) -> Standing:
        if pod.port is None:
            return Standing(pod, trouble="not injected: it has no sidecar")
        if pod.state != "running":
            return Standing(pod, trouble=pod.state)
        path = f"/api/v1/namespaces/{pod.namespace}/pods/{pod.name}:{pod.port}/proxy/metrics"
        try:
            return Standing(pod, scraped(await self._kubectl.raw(path, SCRAPE_LIMIT_S)))
        except KubeError as error:
            if error.reason == "NotFound":
                return Standing(pod, trouble="gone", reason="Gone")
            if error.reason == "Timeout":
                self._silent.add(pod.name)
                fix = f"may the API server reach its port {pod.port}? (NetworkPolicy)"
                return Standing(pod, trouble=f"unreachable: no answer within {SCRAPE_LIMIT_S:g} s: {fix}")
            return Standing(pod, trouble=f"unreachable: {error}", reason=error.reason)
        except ValueError:
            return Standing(pod, trouble=f"port {pod.port} answers, but not as a sidecar of this version does")

    async def until(self, sha256: str, limit_s: float, before: list[Standing], told: Told) -> Wait:
        """Look until each running pod serves by that file, or can't any more, or the time is over.

        `before` is how they stood before the change: a file refused since then will not be taken later. `told` hears
        how many have it, of how many.
        """
        ends = time.monotonic() + limit_s
        unknown = {one.pod.name: math.inf for one in before if one.trouble and one.pod.state == "running"}
        refused = {one.pod.name: one.metrics.rejected for one in before} | unknown
        took: dict[str, Standing] = {}
        while True:
            over = time.monotonic() + LOOK_GAP_S > ends
            try:
                pods = [pod for pod in await self.pods() if pod.state != "ending"]
                took = {pod.name: took[pod.name] for pod in pods if pod.name in took}
                left_s = max(round(ends - time.monotonic()), LEAST_LOOK_S)
                standings = await self.look([pod for pod in pods if pod.name not in took], left_s)
            except KubeError as error:
                if over or error.reason in LASTING:
                    raise
            else:
                took |= {one.pod.name: one for one in standings if one.has(sha256)}
                left = [one for one in standings if not one.has(sha256) and one.reason != "Gone"]
                starting = [one for one in left if one.pod.state == "starting"]
                late = [one for one in left if one.pod.state != "starting"]
                told(len(took), len(took) + len(late))
                wait = Wait(list(took.values()), late, starting, refused)
                hopeless = all(wait.refused_it(one) or one.pod.port is None for one in late)
                if hopeless or over:
                    return wait
            await asyncio.sleep(LOOK_GAP_S)


@dataclass(frozen=True, slots=True)
class Wait:
    """How a wait ended: pods that have the file, that don't, and that start just now (and read it then)."""

    took: list[Standing]
    late: list[Standing]
    starting: list[Standing]
    refused: Mapping[str, float]

    def refused_it(self, one: Standing) -> bool:
        """Whether it has refused a file since the change."""
        return one.trouble is None and one.metrics.rejected > self.refused.get(one.pod.name, 0.0)

    def why(self, one: Standing) -> str:
        """Why a pod is late."""
        if one.trouble is not None:
            return one.trouble
        served = f"serves by generation {one.metrics.generation}" if one.metrics.sha256 else "has no pin file"
        if self.refused_it(one):
            return f"rejected the file, {served}"
        return f"degraded, {served}" if one.metrics.degraded else f"not yet, {served}"
