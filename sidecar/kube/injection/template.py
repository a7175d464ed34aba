"""injection.yaml: the sidecar's container and all that comes with it, as the chart renders them.

Decides: whether the file can be put into any pod at all. A fault here would have the API server refuse every pod, so
it is refused at load, with its place and its fix.
Does not decide: which pod gets it (`decide`), nor what else Kubernetes accepts in a container or a volume.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from sidecar.kube.injection.podview import Source
from sidecar.kube.names import CONTAINER, INJECTED, INJECTED_BY, VERSION
from sidecar.settings.problems import ConfigError, Problem
from sidecar.settings.schema import Section
from sidecar.settings.strict import Document, parse
from sidecar.settings.validate import convert

WEBHOOK = "webhook"
"""What `injected-by` says of pods that this webhook injected: it tops up only those."""

_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", re.ASCII)
_KEY = re.compile(r"([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?", re.ASCII)
_LABEL = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?", re.ASCII)
_OCTAL_MODE = re.compile(r"^[\s-]*(?:defaultMode|mode): +0[0-9]+\s*$", re.MULTILINE)
_Found = tuple[tuple[str | int, ...], str, str]


class Template(Section, frozen=True, kw_only=True):
    """The file. Its keys are spelled as Kubernetes spells its own."""

    version: Annotated[Literal[1], Meta(description="Of this file's shape.")]
    native: Annotated[bool, Meta(description="Whether the sidecar is an init container with restartPolicy Always.")]
    container: Annotated[dict[str, Any], Meta(description="The sidecar's container, whole.")]
    volumes: Annotated[tuple[dict[str, Any], ...], Meta(description="What the container mounts.")] = ()
    envFrom: Annotated[dict[str, Any], Meta(description="The source of the SDK variables.")]  # noqa: N815
    noProxy: Annotated[  # noqa: N815
        tuple[str, ...], Meta(min_length=1, description="What must be reached without a proxy.")
    ]
    imagePullSecrets: Annotated[  # noqa: N815
        tuple[dict[str, str], ...], Meta(description="What the container's image is pulled with.")
    ] = ()
    labels: Annotated[dict[str, str], Meta(description="Set on the pod.")]
    annotations: Annotated[dict[str, str], Meta(description="Set on the pod.")]

    @property
    def source(self) -> Source:
        return msgspec.convert(self.envFrom, Source)

    @property
    def volume_names(self) -> list[str]:
        return [volume["name"] for volume in self.volumes]


def read(data: bytes, path: Path) -> Template:
    """The template in these bytes; `path` is its name in messages. Raises ConfigError with every fault."""
    document = parse(data, str(path))
    template = convert(document, Template)
    problems = [document.problem(*found) for found in _faults(template)] + list(_octal(document, data))
    if problems:
        raise ConfigError(problems)
    return template


def _faults(template: Template) -> Iterator[_Found]:
    yield from _container(template)
    yield from _volumes(template)
    yield from _env(template)
    for field, texts in (("labels", template.labels), ("annotations", template.annotations)):
        for key, value in texts.items():
            if not _KEY.fullmatch(key):
                yield (field, key), "is not a key that Kubernetes takes", "write it as domain/name"
            elif field == "labels" and not _LABEL.fullmatch(value):
                yield (field, key), "is not a value that a label may have", "keep to 63 letters, digits, - _ ."
    if template.labels.get(INJECTED) != "true":
        yield ("labels",), f"`{INJECTED}` is missing", f'add `{INJECTED}: "true"`: all selectors look for it'
    if template.annotations.get(INJECTED_BY) != WEBHOOK:
        yield ("annotations",), f"`{INJECTED_BY}` is missing", f"add `{INJECTED_BY}: {WEBHOOK}`"
    if VERSION not in template.annotations:
        yield ("annotations",), f"`{VERSION}` is missing", f"add `{VERSION}:` with the sidecar's version"


def _container(template: Template) -> Iterator[_Found]:
    container, place = template.container, "container"
    if container.get("name") != CONTAINER:
        fix = f"write `name: {CONTAINER}`: the operators' commands look for it"
        yield (place, "name"), f"is not {CONTAINER}", fix
    image = container.get("image")
    if not isinstance(image, str) or not image or any(character.isspace() for character in image):
        yield (place, "image"), "names no image", "write repository:tag or repository@sha256:…"
    policy = container.get("restartPolicy")
    if template.native and policy != "Always":
        yield (place, "restartPolicy"), "is not Always", "write `restartPolicy: Always`, or `native: false`"
    elif not template.native and policy is not None:
        yield (place, "restartPolicy"), "stands in a classic sidecar", "remove it, or write `native: true`"
    mounts = container.get("volumeMounts", [])
    if not isinstance(mounts, list):
        yield (place, "volumeMounts"), "is not a list", "write it as Kubernetes does"
        return
    known = {volume.get("name") for volume in template.volumes}
    for index, mount in enumerate(mounts):
        name = mount.get("name") if isinstance(mount, dict) else None
        if not isinstance(name, str) or name not in known:
            where = (place, "volumeMounts", index)
            yield where, "mounts a volume that does not stand under `volumes`", "add the volume, or remove the mount"


def _volumes(template: Template) -> Iterator[_Found]:
    seen: set[str] = set()
    for index, volume in enumerate(template.volumes):
        name = volume.get("name")
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            yield ("volumes", index, "name"), "is not the name of a volume", "write at most 63 of a-z 0-9 -"
        elif name in seen:
            yield ("volumes", index, "name"), f"{name} stands twice", "give each volume a name of its own"
        else:
            seen.add(name)


def _env(template: Template) -> Iterator[_Found]:
    try:
        prefix, config_map, secret = template.source.identity
    except msgspec.ValidationError:
        prefix, config_map, secret = "", "", ""
    if bool(config_map) == bool(secret) or prefix or set(template.envFrom) - {"configMapRef", "secretRef"}:
        yield ("envFrom",), "is not one source of variables", "write `configMapRef: {name: …}`"
    for index, secret_name in enumerate(template.imagePullSecrets):
        if set(secret_name) != {"name"} or not secret_name["name"]:
            yield ("imagePullSecrets", index), "names no Secret", "write `name: …`"
    for index, host in enumerate(template.noProxy):
        if not host or re.search(r"[\s,*$]", host):
            yield ("noProxy", index), "is not one host", "write a name or an address; one an entry"


def _octal(document: Document, data: bytes) -> Iterator[Problem]:
    """Kubernetes' YAML takes 0440 for an octal number, this loader for a decimal one."""
    if not document.json and (found := _OCTAL_MODE.search(document_text := data.decode("utf-8-sig"))):
        line = document_text.count("\n", 0, found.start()) + 1
        yield Problem(document.file, line, "", f"`{found[0].strip()}` can be read in two ways", "write it in decimal")
