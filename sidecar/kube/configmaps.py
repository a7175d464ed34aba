"""Pin files as ConfigMaps keep them: the live one, the one before it, and immutable copies of each generation.

Decides: what is written into each, and what of the live object stays as it is. Does not decide: whether to write.
No I/O.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sidecar.kube import names
from sidecar.kube.arguments import RefusedError
from sidecar.settings.load import read_pins
from sidecar.settings.pins import Pins
from sidecar.settings.problems import ConfigError

KEYS = ("pins.yaml", "pins.json")
HISTORY, LIVE, PREVIOUS = "history", "live", "previous"
_OURS = (names.CHANGED_BY, names.CHANGED_AT, names.WHY, names.GENERATION, names.SHA256)


@dataclass(frozen=True, slots=True)
class Stamp:
    """Who changed it, when (RFC 3339, UTC) and why."""

    by: str
    at: str
    why: str | None

    def as_annotations(self) -> dict[str, str]:
        """As a ConfigMap bears it."""
        found = {names.CHANGED_BY: self.by, names.CHANGED_AT: self.at}
        return found if self.why is None else {**found, names.WHY: self.why}


@dataclass(frozen=True, slots=True)
class Kept:
    """One ConfigMap with a pin file. `pins` is None where no sidecar of this version could use the file."""

    document: Mapping[str, Any]
    key: str
    content: str
    sha256: str
    pins: Pins | None

    @property
    def metadata(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.document["metadata"]
        return found

    @property
    def name(self) -> str:
        return str(self.metadata["name"])

    @property
    def namespace(self) -> str:
        return str(self.metadata["namespace"])

    @property
    def annotations(self) -> Mapping[str, str]:
        return self.metadata.get("annotations") or {}

    @property
    def generation(self) -> int | None:
        """The file's own, else what was written beside it."""
        if self.pins is not None:
            return self.pins.generation
        said = self.annotations.get(names.GENERATION, "")
        return int(said) if said.isascii() and said.isdigit() else None

    @property
    def taken_back(self) -> str | None:
        """The copy's name of what was taken back for this file; None unless a rollback brought it."""
        sha256, _, name = self.annotations.get(names.TAKEN_BACK, "").partition(" ")
        return name if sha256 == self.sha256 else None  # Helm may bring a file and leave the annotation

    @property
    def identity(self) -> str:
        """`8 (3f2a1b2c)`."""
        return identity(self.generation, self.sha256)

    @property
    def copy_name(self) -> str:
        """What tells a copy from others of its ConfigMap: `8-3f2a1b2c`."""
        return f"{self.generation if self.generation is not None else 'unknown'}-{self.sha256[:8]}"


def identity(generation: object, sha256: str) -> str:
    """A pin file's name for people."""
    return f"{'unknown' if generation is None else generation} ({sha256[:8]})"


def kept(document: Mapping[str, Any]) -> Kept:
    """What a ConfigMap holds. Raises RefusedError where there's no pin file in it."""
    data = document.get("data") or {}
    found = [key for key in KEYS if key in data]
    name = document["metadata"]["name"]
    if len(found) != 1:
        has = ", ".join(sorted(data)) or "nothing"
        raise RefusedError(f"ConfigMap {name} holds {has}: it must hold `pins.yaml` or `pins.json`, one of them")
    key = found[0]
    content = data[key]
    try:
        pins = read_pins(content.encode(), key, None)
    except ConfigError:
        pins = None
    return Kept(document, key, content, hashlib.sha256(content.encode()).hexdigest(), pins)


def readable(document: Mapping[str, Any] | None) -> Kept | None:
    """The same; None where there is nothing, or no pin file in it: what is shown leaves it out."""
    try:
        return None if document is None else kept(document)
    except RefusedError:
        return None


def replaced(live: Kept, content: str, pins: Pins, stamp: Stamp, *, back: bool = False) -> dict[str, Any]:
    """The live ConfigMap with another pin file. Its resource version stays: it is the precondition of the write.

    `back`: what is live is taken back by it, which a second rollback must know.
    """
    ours = (*_OURS, names.STOPPED, names.TAKEN_BACK)
    rest = {key: value for key, value in live.annotations.items() if key not in ours}
    annotations = {**rest, **_facts(pins.generation, pins.sha256), **stamp.as_annotations()}
    if back:
        annotations[names.TAKEN_BACK] = f"{pins.sha256} {live.copy_name}"
    labels = {**(live.metadata.get("labels") or {}), names.PINS: LIVE}
    metadata = {key: value for key, value in live.metadata.items() if key != "managedFields"}
    return {
        **live.document,
        "metadata": {**metadata, "labels": labels, "annotations": annotations},
        "data": {**(live.document.get("data") or {}), live.key: content},
    }


def previous(live: Kept, name: str, before: Mapping[str, Any] | None) -> dict[str, Any]:
    """The ConfigMap that keeps what is live now. `before` is what it is so far, with its resource version."""
    metadata: dict[str, Any] = {"name": name, "namespace": live.namespace}
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    if before is not None:
        old = before["metadata"]
        metadata = {key: value for key, value in old.items() if key != "managedFields"}
        labels = old.get("labels") or {}
        annotations = {key: value for key, value in (old.get("annotations") or {}).items() if key not in _OURS}
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata | {"labels": {**labels, names.PINS: PREVIOUS}, "annotations": annotations | _story(live)},
        "data": {live.key: live.content},
    }


def history_copy(one: Kept, name: str) -> dict[str, Any]:
    """An immutable copy under a name that tells its content. `name` is that of the live ConfigMap."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": f"{name}-{one.copy_name}",
            "namespace": one.namespace,
            "labels": {names.PINS: HISTORY},
            "annotations": _story(one),
        },
        "data": {one.key: one.content},
        "immutable": True,
    }


def _story(one: Kept) -> dict[str, str]:
    """Annotations that go with the content wherever it is copied to."""
    told = {key: value for key, value in one.annotations.items() if key in _OURS}
    return told | _facts(one.generation, one.sha256)


def _facts(generation: int | None, sha256: str) -> dict[str, str]:
    known = {} if generation is None else {names.GENERATION: str(generation)}
    return {**known, names.SHA256: sha256}
