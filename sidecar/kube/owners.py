"""Who else keeps a ConfigMap as git has it: Argo CD, Flux, or another controller. They would take a change back.

Decides: whether the file has such an owner, and what to do in git instead. Does not decide: whether to go on all the
same. No I/O.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_ARGO = "argocd.argoproj.io/"
_KUSTOMIZE = "kustomize.toolkit.fluxcd.io/"
_HELM = "helm.toolkit.fluxcd.io/"
_MANAGED_BY = "app.kubernetes.io/managed-by"
_MANAGERS = {
    "argocd-controller": "Argo CD",
    "argocd-application-controller": "Argo CD",
    "kustomize-controller": "Flux",
    "helm-controller": "Flux",
}
"""Field managers. Argo CD's oldest way of tracking is the label app.kubernetes.io/instance, which Helm sets, too."""


@dataclass(frozen=True, slots=True)
class Owner:
    """`what` as a person knows it; `sync`: the command that takes git into the cluster; `suspend`: that stops it."""

    what: str
    sync: str | None
    suspend: str | None


def owner_of(metadata: Mapping[str, Any]) -> Owner | None:
    """The owner, by the marks it leaves on what it keeps; None where the cluster itself is the source."""
    labels: Mapping[str, str] = metadata.get("labels") or {}
    notes: Mapping[str, str] = metadata.get("annotations") or {}
    tracked = notes.get(f"{_ARGO}tracking-id", "")
    # application:group/kind:namespace/name; of another object it is a copy's, which Argo CD doesn't mind either.
    if tracked and tracked.rpartition(":")[2] == f"{metadata.get('namespace')}/{metadata.get('name')}":
        return _argo(tracked.partition(":")[0])
    if instance := labels.get(f"{_ARGO}instance") or notes.get(f"{_ARGO}instance"):
        return _argo(instance)
    if _left_alone(labels, notes):
        return None
    if name := labels.get(f"{_KUSTOMIZE}name"):
        return _flux("kustomization", name, labels.get(f"{_KUSTOMIZE}namespace"))
    if name := labels.get(f"{_HELM}name"):
        return _flux("helmrelease", name, labels.get(f"{_HELM}namespace"))
    return _by_manager(metadata, labels)


def _left_alone(labels: Mapping[str, str], notes: Mapping[str, str]) -> bool:
    """Flux's own marks for objects that it doesn't take back."""
    both = {**labels, **notes}
    return (
        both.get(f"{_KUSTOMIZE}reconcile", "").lower() == "disabled"
        or both.get(f"{_KUSTOMIZE}ssa", "").lower() in ("ignore", "ifnotpresent")
    )  # fmt: skip


def _by_manager(metadata: Mapping[str, Any], labels: Mapping[str, str]) -> Owner | None:
    by = labels.get(_MANAGED_BY, "").lower().replace("-", "")
    if by.startswith("argo"):
        return Owner("Argo CD", None, None)
    if by.startswith("flux"):
        return Owner("Flux", None, None)
    for entry in metadata.get("managedFields") or ():
        if "f:data" in (entry.get("fieldsV1") or {}) and entry.get("manager") in _MANAGERS:
            return Owner(_MANAGERS[entry["manager"]], None, None)
    for entry in metadata.get("ownerReferences") or ():
        if entry.get("controller"):
            return Owner(f"{entry['kind']} {entry['name']}", None, None)
    return None


def _argo(application: str) -> Owner:
    # With applications in any namespace the id is namespace_name.
    name = application.replace("_", "/", 1)
    return Owner(
        f"Argo CD's application {name}", f"argocd app sync {name}", f"argocd app set {name} --sync-policy none"
    )


def _flux(kind: str, name: str, namespace: str | None) -> Owner:
    where = f" -n {namespace}" if namespace else ""
    sync = f"flux reconcile {kind} {name}{where} --with-source"
    return Owner(f"Flux's {kind} {name}", sync, f"flux suspend {kind} {name}{where}")


def advice(owner: Owner, live: str, git: list[str], look: list[str]) -> str:
    """Why nothing was done, and what to type instead. `git`: the change in git; `look`: how to see it arrive."""
    lines = [f"{owner.what} keeps ConfigMap {live} as git has it and would take this back. Change it in git:"]
    steps = [*git, *([owner.sync] if owner.sync else []), *look]
    lines += [f"  {step}" for step in steps]
    if owner.suspend:
        lines.append(f"If git can't wait: `{owner.suspend}`, then the same command with --despite-gitops.")
    else:
        lines.append("If git can't wait: suspend it, then the same command with --despite-gitops.")
    return "\n".join(lines)
