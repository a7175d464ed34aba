"""The names by which the chart, the webhook and the operators' commands find each other in a cluster."""

from __future__ import annotations

DOMAIN = "model-sidecar.io/"

INJECT = f"{DOMAIN}inject"
"""Label of a pod, "true" or "false", or of a namespace, "true": who asks for a sidecar. The pod's own word wins."""
INJECTED = f"{DOMAIN}injected"
"""Label of every pod that has a sidecar, however it came."""
INJECTED_BY = f"{DOMAIN}injected-by"
VERSION = f"{DOMAIN}version"
SKIPPED = f"{DOMAIN}skipped"
"""Annotation of a pod that its namespace wanted injected and that could not be: why."""
REFRESHED_AT = f"{DOMAIN}refreshed-at"
"""Annotation of a pod, bumped by a swap: kubelet then refreshes the pod's mounts at once."""

PINS = f"{DOMAIN}pins"
"""Label of a ConfigMap with a pin file: live, previous or history."""
GENERATION = f"{DOMAIN}generation"
SHA256 = f"{DOMAIN}sha256"
VALUES_SHA256 = f"{DOMAIN}values-sha256"
"""Annotation of the live ConfigMap: the file that Helm's values had at the last upgrade, live or not."""
CHANGED_BY = f"{DOMAIN}changed-by"
CHANGED_AT = f"{DOMAIN}changed-at"
WHY = f"{DOMAIN}why"
STOPPED = f"{DOMAIN}stopped"
"""Annotation of the live ConfigMap: the variants that were stopped by hand, who did it, when and why."""

TAKEN_BACK = f"{DOMAIN}taken-back"
"""Annotation of a live ConfigMap that came by a rollback: its sha256, and the name of what was taken back."""

CONTAINER = "model-sidecar"
PROXY_PORT = 4010
ADMIN_PORT = 4011
PROBE_PORT = 4012
NAME = "model-sidecar"
"""The ConfigMaps' common name, unless the chart was told another."""
