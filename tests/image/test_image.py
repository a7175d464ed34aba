"""The image itself: what is in it, and that it serves under the restrictions of a Kubernetes pod."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from sidecar import __version__
from tests.image import kit
from tests.image.kit import Contained, Image
from tests.process.kit import CHAT, Process, listening, opened, wait

pytestmark = pytest.mark.timeout(600)  # the first test of a new machine makes the base and the image
PROVIDER = ("sidecar", "provider", "--listen", "127.0.0.1:0")


@pytest.fixture
def provider(built: Image, tmp_path: Path) -> Iterator[str]:
    """The URL of a fake provider that runs from the same image, as `helm test` starts it."""
    with kit.started(built.contained(*PROVIDER), tmp_path) as process:
        wait(lambda: b"\n" in process.out.read_bytes())
        yield process.out.read_text().split()[-1]


@pytest.fixture
def serving(built: Image, provider: str, tmp_path: Path) -> Iterator[tuple[Contained, Process]]:
    """A sidecar with the image's own entry point and command, on the sample settings and pins."""
    config = tmp_path / "config"
    shutil.copytree(kit.ROOT / "config", config)
    settings = yaml.safe_load((config / "sidecar.yaml").read_text())
    settings |= {"listen": ["127.0.0.1:0"], "admin": {"listen": "127.0.0.1:0"}, "events": {"path": "-"}}
    for entry in settings["providers"].values():
        entry["base_url"] = entry["base_url"].replace("http://127.0.0.1:4020", provider)
    (config / "sidecar.yaml").write_text(yaml.safe_dump(settings))
    with kit.started(built.contained(mounts={config: "/etc/model-sidecar/config"}), tmp_path) as process:
        known = Process(process.popen, process.errors, tmp_path)
        known.addresses = wait(lambda: listening(known))
        yield process, known


def test_it_answers_and_says_by_which_model(serving: tuple[Contained, Process]) -> None:
    with opened(f"{serving[1].url}/v1/chat/completions", CHAT, {"authorization": "Bearer k"}) as answer:
        assert answer.status == 200, answer.read()
        assert answer.headers["x-sidecar-model"] in {"gpt-5.4-2025-11-02", "gpt-5.5-2026-01-15"}


def test_its_events_are_lines_on_standard_output(serving: tuple[Contained, Process]) -> None:
    with opened(f"{serving[1].url}/v1/chat/completions", CHAT) as answer:
        answer.read()
    wait(lambda: b'"kind":"request"' in serving[0].out.read_bytes())
    last = json.loads(serving[0].out.read_text().splitlines()[-1])
    assert (last["pin"], last["status"]) == ("chat.core", 200)


def test_it_is_process_1_without_root_and_without_any_privilege(serving: tuple[Contained, Process]) -> None:
    process = serving[0]
    facts = {key: process.status(key).split() for key in ("Uid", "Gid", "CapEff", "CapBnd", "NoNewPrivs", "NSpid")}
    assert facts["Uid"] == facts["Gid"] == ["65532"] * 4
    assert facts["CapEff"] == facts["CapBnd"] == ["0" * 16]
    assert facts["NoNewPrivs"] == ["1"]
    assert facts["NSpid"][-1] == "1"


def test_a_signal_ends_it_in_good_order(serving: tuple[Contained, Process]) -> None:
    process, known = serving
    os.kill(process.pid, signal.SIGTERM)
    assert process.popen.wait(30) == 0, known.said()


def test_at_rest_it_needs_less_memory_than_its_request(serving: tuple[Contained, Process]) -> None:
    assert int(serving[0].status("VmRSS").split()[0]) < 100 * 1024


def test_it_tries_to_write_nothing(built: Image, serving: tuple[Contained, Process]) -> None:
    assert "Read-only" in built.run("sh", "-c", "touch /tmp/x 2>&1; true")
    assert "Read-only" not in serving[1].said()


def test_the_configuration_is_the_one_the_chart_relies_on(built: Image) -> None:
    assert built.config["Entrypoint"] == ["sidecar"]
    assert built.config["Cmd"] == ["serve", "--config", "/etc/model-sidecar/config/sidecar.yaml"]
    assert built.config["User"] == "65532:65532"
    assert "Volumes" not in built.config


def test_labels_tell_what_it_is_and_what_it_was_built_on(built: Image) -> None:
    known = {k.removeprefix("org.opencontainers.image."): v for k, v in built.config["Labels"].items()}
    base = kit.command("buildah", "inspect", "--type", "image", "--format", "{{.FromImageDigest}}", kit.BASE)
    revision = kit.command("git", "-C", str(built.checkout), "rev-parse", "HEAD")
    assert known["version"] == __version__
    assert known["revision"] == revision
    assert known["source"] == "https://example.org/model-sidecar"
    assert known["licenses"] == "Apache-2.0"
    assert known["created"] == "2026-01-02T03:04:05Z"
    assert known["base.name"] == kit.BASE
    assert known["base.digest"] == base


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.fixture
def installed(built: Image) -> dict[str, str]:
    """The distributions in the image's environment and their versions, as its own Python finds them."""
    code = "import importlib.metadata as m, json; print(json.dumps({d.name: d.version for d in m.distributions()}))"
    return {
        canonical(k): v for k, v in json.loads(built.run("/opt/model-sidecar/bin/python", "-I", "-c", code)).items()
    }


def test_the_sbom_lists_what_is_installed(built: Image, installed: dict[str, str]) -> None:
    bom = json.loads((built.root / "usr/share/sbom/model-sidecar.cdx.json").read_text())
    assert bom["bomFormat"] == "CycloneDX"
    listed = [*bom["components"], bom["metadata"]["component"]]
    assert {canonical(c["name"]): c["version"] for c in listed} == installed


def test_what_is_installed_is_what_is_locked(installed: dict[str, str]) -> None:
    lock = (kit.ROOT / "requirements/runtime.lock").read_text()
    locked = dict(re.findall(r"^([a-z0-9-]+)==(\S+)", lock, re.MULTILINE))
    assert installed.pop("model-sidecar") == __version__
    assert installed.items() <= locked.items()
    assert len(installed) >= 10


def test_all_that_serving_imports_is_there_as_bytecode(built: Image) -> None:
    code = (
        "import sys, os, sidecar.runtime.serve, sidecar.settings.load, sidecar.cli;"
        "print([m.__name__ for m in sys.modules.values()"
        "       if getattr(m, '__cached__', None) and not os.path.exists(m.__cached__)])"
    )
    assert built.run("/opt/model-sidecar/bin/python", "-I", "-c", code) == "[]"


def test_bytecode_is_never_checked_against_a_source(built: Image) -> None:
    compiled = list((built.root / "opt/model-sidecar").rglob("*.pyc"))
    assert len(compiled) > 300
    assert {path.read_bytes()[4] for path in compiled} == {1}  # PEP 552: by hash, unchecked


def test_nothing_can_be_installed_and_no_tests_of_packages_are_left(built: Image) -> None:
    library = built.root / "opt/model-sidecar/lib"
    assert not [p for p in library.rglob("*") if p.name in {"pip", "setuptools", "tests", "test"} or p.suffix == ".pyx"]
    with pytest.raises(AssertionError, match="No module named pip"):
        built.run("/opt/model-sidecar/bin/python", "-m", "pip", "--version")
    with pytest.raises(AssertionError, match="No module named ensurepip"):
        built.run("python3", "-m", "ensurepip")


def test_libraries_bear_no_symbols(built: Image) -> None:
    libraries = list((built.root / "opt/model-sidecar").rglob("*.so"))
    assert libraries
    assert not [path.name for path in libraries if b"\0.symtab\0" in path.read_bytes()]


def test_its_user_owns_and_may_change_no_file(built: Image) -> None:
    added = [p for top in ("opt/model-sidecar", "etc/model-sidecar", "usr/share/sbom")
             for p in (built.root / top).rglob("*") if not p.is_symlink()]  # fmt: skip
    assert not [str(p) for p in added if p.stat().st_uid != 0 or p.stat().st_mode & 0o022]


def test_what_it_adds_to_its_base_is_small(built: Image) -> None:
    sizes = [sum(p.stat().st_size for p in (built.root / top).rglob("*") if p.is_file() and not p.is_symlink())
             for top in ("opt/model-sidecar", "usr/share/sbom")]  # fmt: skip
    assert sum(sizes) < 30e6


def test_the_licence_is_in_it(built: Image) -> None:
    text = (built.root / "usr/share/licenses/model-sidecar/LICENSE").read_text()
    assert text == (kit.ROOT / "LICENSE").read_text()


def test_the_same_sources_give_the_same_image_and_leave_its_sbom(built: Image) -> None:
    for path in (built.checkout / "sidecar").rglob("*.py"):
        path.touch()  # a checkout's dates are those of the day
    again = f"{built.tag}-again"
    with kit.alone():
        kit.prune()
        said = kit.build(built.checkout, again)
        kit.prune(again)
    beside = built.checkout / "build/image/model-sidecar.cdx.json"
    assert f"digest  {built.digest}\n" in said
    assert beside.read_bytes() == (built.root / "usr/share/sbom/model-sidecar.cdx.json").read_bytes()
