"""injection.yaml: what can't be put into any pod is refused with its place and its fix."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from sidecar.kube.injection.template import read
from sidecar.settings.problems import ConfigError
from tests.kube.webhook_kit import Json, template_data

PATH = Path("/etc/injection/injection.yaml")


def problems(data: Json | bytes) -> str:
    """What is said of the file, one problem a line."""
    with pytest.raises(ConfigError) as caught:
        read(data if isinstance(data, bytes) else yaml.safe_dump(data, sort_keys=False).encode(), PATH)
    return str(caught.value)


def changed(change: Callable[[Json], Any], *, native: bool = True) -> Json:
    data = template_data(native=native)
    change(data)
    return data


@pytest.mark.parametrize("native", [True, False])
def test_a_good_file_is_read_whole(native: bool) -> None:
    data = template_data(native=native)
    template = read(yaml.safe_dump(data).encode(), PATH)
    assert template.container == data["container"]
    assert list(template.volumes) == data["volumes"]


BAD: dict[str, tuple[Callable[[Json], Any], str]] = {
    "unknown key": (lambda d: d.update(annotation={}), "annotation: unknown key"),
    "no container": (lambda d: d.pop("container"), "`container` is missing"),
    "another version": (lambda d: d.update(version=2), "version: 2 cannot stand here — fix: write `1`"),
    "container is a list": (lambda d: d.update(container=[]), "container: is a list, not a mapping"),
    "another name": (lambda d: d["container"].update(name="proxy"), "container.name: is not model-sidecar"),
    "no image": (lambda d: d["container"].pop("image"), "names no image"),
    "image with a space": (lambda d: d["container"].update(image="a b"), "container.image: names no image"),
    "native without its policy": (lambda d: d["container"].pop("restartPolicy"), "restartPolicy: is not Always"),
    "volume without a name": (lambda d: d["volumes"][1].pop("name"), "volumes[1].name: is not the name of a volume"),
    "volume twice": (
        lambda d: d["volumes"].append({"name": "model-sidecar-config"}),
        "volumes[3].name: model-sidecar-config stands twice",
    ),
    "mount of no volume": (lambda d: d["volumes"].pop(), "container.volumeMounts[2]: mounts a volume that does not"),
    "mounts are no list": (lambda d: d["container"].update(volumeMounts="all"), "volumeMounts: is not a list"),
    "two sources": (lambda d: d["envFrom"].update(secretRef={"name": "s"}), "envFrom: is not one source"),
    "source without a name": (lambda d: d.update(envFrom={"configMapRef": {}}), "envFrom: is not one source"),
    "source of another shape": (lambda d: d.update(envFrom={"configMapRef": "env"}), "envFrom: is not one source"),
    "a pull secret without a name": (lambda d: d.update(imagePullSecrets=[{"nam": "x"}]), "[0]: names no Secret"),
    "no hosts": (lambda d: d.update(noProxy=[]), "noProxy: is empty"),
    "two hosts in one": (lambda d: d.update(noProxy=["a,b"]), "noProxy[0]: is not one host"),
    "a label that no label can be": (lambda d: d["labels"].update(a="b c"), "labels.a: is not a value that a label"),
    "a key that no key can be": (lambda d: d["annotations"].update({"a b": "c"}), "is not a key that Kubernetes takes"),
    "label is a number": (lambda d: d["labels"].update(a=1), "labels.a: 1 cannot stand here"),
    "no mark for the selectors": (lambda d: d["labels"].clear(), "`model-sidecar.io/injected` is missing"),
    "no word of who injected": (lambda d: d["annotations"].pop("model-sidecar.io/injected-by"), "injected-by: webhook"),
    "no version": (lambda d: d["annotations"].pop("model-sidecar.io/version"), "`model-sidecar.io/version` is missing"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_no_pod_could_take_is_refused(name: str) -> None:
    change, words = BAD[name]
    assert words in problems(changed(change))


def test_every_problem_names_the_file_and_the_line() -> None:
    assert problems(changed(lambda d: d["container"].update(image=""))).startswith(f"{PATH}:5: container.image: ")


def test_all_problems_are_told_at_once() -> None:
    said = problems(changed(lambda d: (d["labels"].clear(), d["container"].pop("image"))))
    assert len(said.splitlines()) == 2


def test_a_classic_sidecar_has_no_policy_of_its_own() -> None:
    data = changed(lambda d: d["container"].update(restartPolicy="Always"), native=False)
    assert "restartPolicy: stands in a classic sidecar" in problems(data)


def test_an_octal_mode_would_mean_another_number_to_kubernetes() -> None:
    text = yaml.safe_dump(template_data()) + "\n"
    bad = text.replace("    optional: true", "    optional: true\n    defaultMode: 0440")
    assert bad != text
    assert "`defaultMode: 0440` can be read in two ways" in problems(bad.encode())


@pytest.mark.parametrize("data", [b"", b"{", b"\xff\xfe", b"- a", b"a: *b"])
def test_what_is_no_template_is_refused(data: bytes) -> None:
    assert str(PATH) in problems(data)
