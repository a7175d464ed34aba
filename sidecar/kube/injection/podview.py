"""What the injection reads of a pod, typed. Everything else of the pod is none of its business and not looked at.

Decides: whether those parts have the shape that the Kubernetes API gives them. Absent, null and empty mean the same.
Does not decide: what follows from them.
"""

from __future__ import annotations

from typing import Any

import msgspec

Texts = dict[str, str | None]


class ShapeError(Exception):
    """The object is no pod; the message names the place."""


class View(msgspec.Struct, frozen=True, rename="camel"):
    """A part of a Kubernetes object. Unknown members are left out, absent ones are None."""


class Reference(View, frozen=True):
    """Another object of the namespace."""

    name: str | None = None


class Source(View, frozen=True):
    """One entry of `envFrom`."""

    prefix: str | None = None
    config_map_ref: Reference | None = None
    secret_ref: Reference | None = None

    @property
    def identity(self) -> tuple[str, str, str]:
        """What makes two entries the same source, whatever defaults the API server filled in."""
        return (
            self.prefix or "",
            (self.config_map_ref and self.config_map_ref.name) or "",
            (self.secret_ref and self.secret_ref.name) or "",
        )


class EnvVar(View, frozen=True):
    """One entry of `env`."""

    name: str | None = None
    value: str | None = None
    value_from: dict[str, Any] | None = None


class Port(View, frozen=True):
    """A port that a container says it listens on."""

    container_port: int | None = None
    protocol: str | None = None


class Container(View, frozen=True):
    """A container, or an init container."""

    name: str | None = None
    env: list[EnvVar] | None = None
    env_from: list[Source] | None = None
    ports: list[Port] | None = None
    restart_policy: str | None = None


class Volume(View, frozen=True):
    name: str | None = None


class Owner(View, frozen=True):
    """An entry of `ownerReferences`."""

    api_version: str | None = None
    kind: str | None = None


class PodOs(View, frozen=True):
    name: str | None = None


class Spec(View, frozen=True):
    containers: list[Container] | None = None
    init_containers: list[Container] | None = None
    volumes: list[Volume] | None = None
    image_pull_secrets: list[Reference] | None = None
    host_network: bool | None = None
    node_selector: Texts | None = None
    os: PodOs | None = None


class Metadata(View, frozen=True):
    labels: Texts | None = None
    annotations: Texts | None = None
    owner_references: list[Owner] | None = None


class Pod(View, frozen=True):
    """A pod as it is about to be created."""

    metadata: Metadata | None = None
    spec: Spec | None = None

    @property
    def containers(self) -> list[Container]:
        return (self.spec and self.spec.containers) or []

    @property
    def init_containers(self) -> list[Container]:
        return (self.spec and self.spec.init_containers) or []

    @property
    def labels(self) -> Texts:
        return (self.metadata and self.metadata.labels) or {}

    @property
    def annotations(self) -> Texts:
        return (self.metadata and self.metadata.annotations) or {}


def view(pod: object) -> Pod:
    """The typed view of a pod. Raises ShapeError."""
    try:
        return msgspec.convert(pod, Pod)
    except msgspec.ValidationError as error:
        wrong, _, place = str(error).partition(" - at `$")
        raise ShapeError(f"request.object{place.rstrip('`')}: {wrong}") from None
