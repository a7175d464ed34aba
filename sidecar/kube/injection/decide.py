"""One pod → what is done about it, as a pure function.

Decides: whether a pod gets the sidecar, which JSON Patch (RFC 6902) puts it in, and who is told why not. Applied to a
pod that this webhook has injected already, it adds what a later container lacks and nothing else: the API server asks
again when another webhook changed the pod (`reinvocationPolicy: IfNeeded`).
Does not decide: what stands in the template, what a container's environment needs (`environment`), which pods can't
have a sidecar (`hindrance`), how the API server is answered (`review`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from sidecar.kube.injection import environment
from sidecar.kube.injection.environment import Op
from sidecar.kube.injection.hindrance import hindrance
from sidecar.kube.injection.podview import Pod, Spec, view
from sidecar.kube.injection.template import WEBHOOK, Template
from sidecar.kube.names import CONTAINER, INJECT, INJECTED_BY, SKIPPED
from sidecar.telemetry.lines import safe

AskedBy = Literal["pod", "namespace"]
Result = Literal["injected", "topped_up", "unchanged", "skipped", "denied"]

_MIRROR = "kubernetes.io/config.mirror"


@dataclass(frozen=True, slots=True)
class Decision:
    """`reason` is a sentence for people; `warnings` are for whoever creates the pod."""

    result: Result
    reason: str
    asked_by: AskedBy
    ops: list[Op] = field(default_factory=list)
    warnings: tuple[str, ...] = ()


def decide(raw: dict[str, Any], template: Template, asked_by: AskedBy) -> Decision:
    """What to do about the pod `raw`. Raises ShapeError if it is none."""
    pod = view(raw)
    label = pod.labels.get(INJECT)
    if label == "true":
        asked_by = "pod"
    warnings: tuple[str, ...] = ()
    if label not in (None, "true", "false"):
        warnings = (f'The label {INJECT} is "{safe(label, 63)}", which means nothing: write "true" or "false".',)
    present = any(container.name == CONTAINER for container in (*pod.containers, *pod.init_containers))
    if (reason := _nothing_to_do(pod, label, present=present)) is not None:
        return Decision("unchanged", reason, asked_by, warnings=warnings)
    ops = list(_environments(pod, template)) if present else list(_injection(pod, template))
    if not ops:
        return Decision("unchanged", "The pod is injected already.", asked_by, warnings=warnings)
    if (sentence := hindrance(pod, template, present=present)) is not None:
        if asked_by == "pod":
            return Decision("denied", sentence, asked_by, warnings=warnings)
        skipped = [] if present else list(skipped_ops(raw, sentence))
        return Decision("skipped", sentence, asked_by, skipped, (*warnings, sentence))
    if present:
        reason = "The pod is injected already; containers that came later got the environment."
        return Decision("topped_up", reason, asked_by, ops, warnings)
    return Decision("injected", "The pod got the sidecar.", asked_by, ops, warnings)


def skipped_ops(raw: Mapping[str, Any], sentence: str) -> Iterator[Op]:
    """Operations that write on a pod why it has no sidecar. `raw` may be of any shape."""
    metadata = raw.get("metadata")
    yield from _texts(metadata if isinstance(metadata, dict) else None, "annotations", {SKIPPED: sentence})


def _nothing_to_do(pod: Pod, label: str | None, *, present: bool) -> str | None:
    if label == "false":
        return f'The pod opted out by its label {INJECT}: "false".'
    if _MIRROR in pod.annotations:
        # kubelet makes these to show a static pod; it deletes one that is not what it made, and makes it again.
        return "The pod is the mirror of a static pod, which can't be changed."
    if not any(container.name != CONTAINER for container in pod.containers):
        return "The pod has no containers of its own."
    if present and pod.annotations.get(INJECTED_BY) != WEBHOOK:
        return f"The pod has a container named {CONTAINER} already, and not from this webhook."
    return None


def _injection(pod: Pod, template: Template) -> Iterator[Op]:
    """Environments first: their paths count the containers as they are before ours stands in front of them."""
    yield from _environments(pod, template)
    field_name, there = ("initContainers", pod.init_containers) if template.native else ("containers", pod.containers)
    if there:
        yield {"op": "add", "path": f"/spec/{field_name}/0", "value": template.container}
    else:
        yield {"op": "add", "path": f"/spec/{field_name}", "value": [template.container]}
    spec = pod.spec or Spec()
    yield from _appended("volumes", bool(spec.volumes), template.volumes)
    has = {secret.name for secret in spec.image_pull_secrets or ()}
    lacks = [secret for secret in template.imagePullSecrets if secret["name"] not in has]
    yield from _appended("imagePullSecrets", bool(spec.image_pull_secrets), lacks)
    yield from _marks(pod, template)


def _appended(name: str, there: bool, items: Sequence[Mapping[str, Any]]) -> Iterator[Op]:
    if there:
        for item in items:
            yield {"op": "add", "path": f"/spec/{name}/-", "value": item}
    elif items:
        yield {"op": "add", "path": f"/spec/{name}", "value": list(items)}


def _environments(pod: Pod, template: Template) -> Iterator[Op]:
    lists = {"containers": pod.containers}
    if template.native:  # a classic sidecar starts after the init containers
        lists["initContainers"] = pod.init_containers
    for name, containers in lists.items():
        for index, container in enumerate(containers):
            if container.name != CONTAINER:
                yield from environment.operations(container, template, f"/spec/{name}/{index}")


def _marks(pod: Pod, template: Template) -> Iterator[Op]:
    if pod.metadata is None:
        value = {"labels": template.labels, "annotations": template.annotations}
        yield {"op": "add", "path": "/metadata", "value": value}
        return
    metadata = {"labels": pod.metadata.labels, "annotations": pod.metadata.annotations}
    yield from _texts(metadata, "labels", template.labels)
    yield from _texts(metadata, "annotations", template.annotations)
    if SKIPPED in pod.annotations:  # copied from a pod that was skipped: it isn't true of this one
        yield {"op": "remove", "path": f"/metadata/annotations/{_escaped(SKIPPED)}"}


def _texts(metadata: Mapping[str, Any] | None, name: str, wanted: Mapping[str, str]) -> Iterator[Op]:
    """Operations that set labels or annotations, whatever is there."""
    if metadata is None:
        yield {"op": "add", "path": "/metadata", "value": {name: dict(wanted)}}
        return
    there = metadata.get(name)
    if not isinstance(there, Mapping) or not there:
        yield {"op": "add", "path": f"/metadata/{name}", "value": dict(wanted)}
        return
    for key, value in wanted.items():
        if there.get(key) != value:
            op = "replace" if key in there else "add"
            yield {"op": op, "path": f"/metadata/{name}/{_escaped(key)}", "value": value}


def _escaped(key: str) -> str:
    """A key as a part of a JSON pointer (RFC 6901). `~` would need escaping too, but the template has no such keys."""
    return key.replace("/", "~1")
