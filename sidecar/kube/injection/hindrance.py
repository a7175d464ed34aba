"""Why a pod can't have the sidecar: one sentence each, with the way out.

Decides: which pods those are. Does not decide: what happens to them (`decide`).
"""

from __future__ import annotations

from collections.abc import Iterator

from sidecar.kube.injection.podview import Container, Pod
from sidecar.kube.injection.template import Template
from sidecar.kube.names import ADMIN_PORT, CONTAINER, INJECT, PROBE_PORT, PROXY_PORT
from sidecar.telemetry.lines import safe

_PORTS = (PROXY_PORT, ADMIN_PORT, PROBE_PORT)
_OPT_OUT = f'or opt out with the label {INJECT}: "false"'


def hindrance(pod: Pod, template: Template, *, present: bool) -> str | None:
    """The first reason, None if there is none. `present`: our container and its volumes are in the pod already."""
    spec = pod.spec
    if spec is None:
        return None
    if spec.host_network:
        return f"The pod uses hostNetwork, where the sidecar's ports would be the node's: remove it, {_OPT_OUT}."
    if (spec.os and spec.os.name == "windows") or (spec.node_selector or {}).get("kubernetes.io/os") == "windows":
        return f"The pod is for Windows nodes, and the sidecar's image is for Linux: use a Linux node, {_OPT_OUT}."
    for container in _together(pod, template):
        for port in container.ports or ():
            if port.container_port in _PORTS and port.protocol not in ("UDP", "SCTP"):
                return (
                    f"The container {safe(container.name or '?', 63)} declares port {port.container_port}, "
                    f"which is the sidecar's: move it to another port, {_OPT_OUT}."
                )
    if present:
        return None
    taken = {volume.name for volume in spec.volumes or ()}
    for name in template.volume_names:
        if name in taken:
            return f"The pod has a volume named {name}, which is the sidecar's: give it another name, {_OPT_OUT}."
    if not template.native and _of_a_job(pod):
        return (
            "The pod is a Job's, which would never end with a sidecar that is an ordinary container: "
            f"use native sidecars (Kubernetes 1.29), {_OPT_OUT}."
        )
    return None


def _together(pod: Pod, template: Template) -> Iterator[Container]:
    """The containers that run while the sidecar does, itself left out."""
    for container in pod.containers:
        if container.name != CONTAINER:
            yield container
    for container in pod.init_containers:
        if container.name != CONTAINER and (template.native or container.restart_policy == "Always"):
            yield container


def _of_a_job(pod: Pod) -> bool:
    owners = (pod.metadata and pod.metadata.owner_references) or ()
    return any(owner.kind == "Job" and (owner.api_version or "").startswith("batch/") for owner in owners)
