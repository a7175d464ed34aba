"""What an app's own chart gets from the library: `model-sidecar.pod` puts the sidecar into a pod template."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sidecar import __version__
from tests.kube import kit
from tests.kube.kit import Manifest, RenderError, containers, pod, sidecar_of

DEPLOYMENT = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  selector: {matchLabels: {app: web}}
  template:
    {{- include "model-sidecar.pod" (dict "root" $ "pod" .Values.pod) | nindent 4 }}
"""
LOOPBACK = "127.0.0.1,localhost,::1"
Inject = Callable[..., Manifest]


@pytest.fixture(scope="module")
def inject(tmp_path_factory: pytest.TempPathFactory) -> Inject:
    """The pod template `pod` with the sidecar in it, as rendered for a Kubernetes version and checked by its schema."""
    chart = kit.app_chart(tmp_path_factory.mktemp("app") / "web", {"web.yaml": DEPLOYMENT})

    def run(pod: Manifest, kube_version: str = "1.36", **values: Any) -> Manifest:
        manifests = kit.render({"pod": pod, "modelSidecar": values}, chart=chart, kube_version=kube_version)
        kit.validate(manifests, kube_version)
        template: Manifest = kit.one(manifests, "Deployment")["spec"]["template"]
        return template

    return run


def env_of(container: Manifest) -> dict[str, Any]:
    return {entry["name"]: entry.get("value", entry.get("valueFrom")) for entry in container.get("env", [])}


@pytest.mark.parametrize("version", ["1.29", "1.33", "1.37"])
def test_a_native_sidecar_is_the_first_init_container(inject: Inject, version: str) -> None:
    spec = inject(pod(initContainers=[{"name": "migrate", "image": "web:1"}]), version)["spec"]
    assert [c["name"] for c in spec["initContainers"]] == ["model-sidecar", "migrate"]
    assert spec["initContainers"][0]["restartPolicy"] == "Always"
    assert [c["name"] for c in spec["containers"]] == ["web"]


def test_a_classic_sidecar_is_the_first_container(inject: Inject) -> None:
    spec = inject(pod(initContainers=[{"name": "migrate", "image": "web:1"}]), "1.28")["spec"]
    assert [c["name"] for c in spec["containers"]] == ["model-sidecar", "web"]
    assert "restartPolicy" not in spec["containers"][0]
    assert spec["initContainers"] == [{"name": "migrate", "image": "web:1"}]  # it runs before the sidecar: no variables


@pytest.mark.parametrize(
    ("choice", "version", "native"),
    [("auto", "1.28", False), ("auto", "1.29", True), (False, "1.36", False), ("true", "1.28", True)],
)
def test_which_shape(inject: Inject, choice: object, version: str, native: bool) -> None:
    spec = inject(pod(), version, nativeSidecar=choice)["spec"]
    assert ("initContainers" in spec) is native


def test_the_version_to_render_for_can_be_said(inject: Inject) -> None:
    assert "initContainers" not in inject(pod(), "1.36", kubeVersionOverride="1.28")["spec"]
    for version in ("v1.31.2-gke.100", "v1.33.1+k3s1", "1.30+"):
        assert "initContainers" in inject(pod(), "1.28", kubeVersionOverride=version)["spec"]


def test_all_containers_of_the_app_read_the_variables_first(inject: Inject) -> None:
    own = {"secretRef": {"name": "own"}}
    template = pod(initContainers=[{"name": "migrate", "image": "web:1"}])
    template["spec"]["containers"][0]["envFrom"] = [own]
    spec = inject(template)["spec"]
    ours = {"configMapRef": {"name": "model-sidecar-env"}}
    assert [c.get("envFrom") for c in containers(spec)] == [None, [ours], [ours, own]]


def test_nothing_that_the_app_sets_is_changed(inject: Inject) -> None:
    app: Manifest = {
        "metadata": {"labels": {"app": "web", "team": "a"}, "annotations": {"note": "mine"}},
        "spec": {
            "serviceAccountName": "web",
            "terminationGracePeriodSeconds": 120,
            "volumes": [{"name": "data", "emptyDir": {}}],
            "containers": [
                {
                    "name": "web",
                    "image": "web:1",
                    "env": [{"name": "OPENAI_BASE_URL", "value": "https://elsewhere.example.com/v1"}],
                    "volumeMounts": [{"name": "data", "mountPath": "/data"}],
                }
            ],
        },
    }
    template = inject(app)
    spec = template["spec"]
    assert spec["containers"][0].items() >= app["spec"]["containers"][0].items()
    assert spec["volumes"][0] == {"name": "data", "emptyDir": {}}
    assert (spec["serviceAccountName"], spec["terminationGracePeriodSeconds"]) == ("web", 120)
    assert template["metadata"]["labels"].items() >= app["metadata"]["labels"].items()
    assert template["metadata"]["annotations"]["note"] == "mine"


def test_it_says_that_it_was_injected_and_how(inject: Inject) -> None:
    metadata = inject(pod())["metadata"]
    assert metadata["labels"]["model-sidecar.io/injected"] == "true"
    assert metadata["annotations"]["model-sidecar.io/injected-by"] == "include"


def test_other_settings_roll_the_pods_and_other_pins_do_not(inject: Inject) -> None:
    def annotations(**values: Any) -> Manifest:
        found: Manifest = inject(pod(), **values)["metadata"]["annotations"]
        return found

    assert annotations() != annotations(sidecar={"settings": {"log": {"level": "debug"}}})
    assert annotations() == annotations(pins={"content": "version: 1\ngeneration: 2\nunlisted: pass\n"})
    assert "model-sidecar.io/settings-sha256" not in annotations(existing=True)


def test_a_pod_that_has_one_already_comes_back_as_it_is(inject: Inject) -> None:
    once = inject(pod())
    assert inject(once) == once


def test_a_pod_may_opt_out(inject: Inject) -> None:
    template = pod(hostNetwork=True)
    template["metadata"]["labels"]["model-sidecar.io/inject"] = "false"
    assert inject(template) == template
    assert inject(pod(), enabled=False) == pod()


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        ([], {}),
        ([("HTTPS_PROXY", "http://p:3128")], {"NO_PROXY": LOOPBACK, "no_proxy": LOOPBACK}),
        ([("all_proxy", "http://p:3128")], {"NO_PROXY": LOOPBACK, "no_proxy": LOOPBACK}),
        (
            [("http_proxy", "http://p"), ("NO_PROXY", "a.corp, localhost")],
            dict.fromkeys(("NO_PROXY", "no_proxy"), "a.corp, localhost,127.0.0.1,::1"),
        ),
        ([("http_proxy", "http://p"), ("no_proxy", "*")], {"NO_PROXY": "*", "no_proxy": "*"}),
        ([("no_proxy", "a.corp")], dict.fromkeys(("NO_PROXY", "no_proxy"), f"a.corp,{LOOPBACK}")),
    ],
)
def test_calls_to_the_sidecar_bypass_a_proxy(inject: Inject, env: list[tuple[str, str]], expected: Manifest) -> None:
    template = pod()
    template["spec"]["containers"][0]["env"] = [{"name": name, "value": value} for name, value in env]
    found = env_of(inject(template)["spec"]["containers"][0])
    assert {name: found[name] for name in found if name.upper() == "NO_PROXY"} == expected
    assert list(found)[: len(env)] == [name for name, _ in env]


def test_a_no_proxy_from_elsewhere_is_left_alone(inject: Inject) -> None:
    reference = {"configMapKeyRef": {"name": "proxy", "key": "no"}}
    template = pod()
    template["spec"]["containers"][0]["env"] = [
        {"name": "HTTPS_PROXY", "value": "http://p"},
        {"name": "NO_PROXY", "valueFrom": reference},
    ]
    found = env_of(inject(template)["spec"]["containers"][0])
    assert found == {"HTTPS_PROXY": "http://p", "NO_PROXY": reference, "no_proxy": f"$(NO_PROXY),{LOOPBACK}"}


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ({"hostNetwork": True}, "uses the host's network.*remove hostNetwork"),
        ({"os": {"name": "windows"}}, "runs on Windows.*move the pod"),
        ({"nodeSelector": {"kubernetes.io/os": "windows"}}, "runs on Windows"),
        (
            {"containers": [{"name": "web", "image": "web:1", "ports": [{"containerPort": 4011}]}]},
            'container "web" declares containerPort 4011.*let it listen on another port',
        ),
    ],
)
def test_pods_that_can_have_none_are_refused(inject: Inject, spec: Manifest, sentence: str) -> None:
    with pytest.raises(RenderError, match=sentence) as error:
        inject(pod(**spec))
    assert 'model-sidecar.io/inject: "false"' in str(error.value)


def test_a_pod_that_ends_by_itself_needs_a_native_sidecar(tmp_path: Path) -> None:
    job = (
        DEPLOYMENT.replace("apps/v1", "batch/v1")
        .replace("Deployment", "Job")
        .replace("selector: {matchLabels: {app: web}}", "")
    )
    chart = kit.app_chart(tmp_path / "web", {"job.yaml": job})
    values = {"pod": pod(restartPolicy="Never")}
    kit.validate(kit.render(values, chart=chart, kube_version="1.29"), "1.29")
    with pytest.raises(RenderError, match=r"ends by itself \(restartPolicy: Never\).*Kubernetes 1.29"):
        kit.render(values, chart=chart, kube_version="1.28")


@pytest.mark.parametrize("template", [DEPLOYMENT, '{{ include "model-sidecar.configmaps" $ }}'])
def test_a_chart_that_forgot_the_alias_is_told(tmp_path: Path, template: str) -> None:
    folder = tmp_path / "web"
    kit.app_chart(folder, {"web.yaml": template})
    about = folder / "Chart.yaml"
    about.write_text(about.read_text().replace(', "alias": "modelSidecar"', ""))
    with pytest.raises(RenderError, match="alias: modelSidecar"):
        kit.render({"pod": pod()}, chart=folder)


def test_pull_secrets_are_added(inject: Inject) -> None:
    spec = inject(pod(imagePullSecrets=[{"name": "own"}]), image={"pullSecrets": [{"name": "ours"}, {"name": "own"}]})[
        "spec"
    ]
    assert spec["imagePullSecrets"] == [{"name": "own"}, {"name": "ours"}]


@pytest.mark.parametrize("version", ["1.28", "1.36"])
def test_the_sidecar_is_restricted(inject: Inject, version: str) -> None:
    spec = inject(pod(), version)["spec"]
    assert sidecar_of(spec)["securityContext"] == {
        "runAsNonRoot": True,
        "runAsUser": 65532,
        "runAsGroup": 65532,
        "readOnlyRootFilesystem": True,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert not any("hostPort" in port for port in sidecar_of(spec)["ports"])
    assert all(volume.keys() & {"configMap", "secret"} for volume in spec["volumes"])


def test_it_has_no_cpu_limit_and_measured_requests(inject: Inject) -> None:
    resources = sidecar_of(inject(pod())["spec"])["resources"]
    assert resources == {"requests": {"cpu": "100m", "memory": "96Mi"}, "limits": {"memory": "256Mi"}}


def test_it_has_no_hook_that_delays_its_end(inject: Inject) -> None:
    assert "lifecycle" not in sidecar_of(inject(pod())["spec"])
    assert "lifecycle" not in sidecar_of(inject(pod(), "1.28")["spec"])


def test_every_mount_is_a_directory_and_read_only(inject: Inject) -> None:
    mounts = sidecar_of(inject(pod())["spec"])["volumeMounts"]
    assert all(mount["readOnly"] and "subPath" not in mount for mount in mounts)


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        ({}, f"model-sidecar:{__version__}"),
        (
            {"registry": "registry.example.com:5000/llm", "tag": "1.2"},
            "registry.example.com:5000/llm/model-sidecar:1.2",
        ),
        ({"tag": "1.2", "digest": "sha256:" + "0" * 64}, "model-sidecar@sha256:" + "0" * 64),
    ],
)
def test_the_images_name(inject: Inject, image: Manifest, expected: str) -> None:
    assert sidecar_of(inject(pod(), image=image)["spec"])["image"] == expected


def test_keys_come_from_secrets_by_variable_or_file(inject: Inject) -> None:
    secrets = [
        {"provider": "openai", "secretName": "llm", "secretKey": "openai", "env": "OPENAI_KEY"},
        {"provider": "anthropic", "secretName": "llm.keys", "secretKey": "anthropic"},
        {"provider": "gemini", "secretName": "llm.keys", "secretKey": "gemini"},
    ]
    spec = inject(pod(), sidecar={"secrets": secrets})["spec"]
    assert env_of(sidecar_of(spec)) == {"OPENAI_KEY": {"secretKeyRef": {"name": "llm", "key": "openai"}}}
    volumes = [volume for volume in spec["volumes"] if "secret" in volume]
    assert [volume["secret"] for volume in volumes] == [{"secretName": "llm.keys"}]
    mount = next(m for m in sidecar_of(spec)["volumeMounts"] if m["name"] == volumes[0]["name"])
    assert mount["mountPath"] == "/etc/model-sidecar/secrets/" + volumes[0]["name"].removeprefix(
        "model-sidecar-secret-"
    )


def test_a_secrets_long_name_still_makes_a_volumes_name(inject: Inject) -> None:
    secret = {"provider": "openai", "secretName": "very.long-" * 20 + "name", "secretKey": "k"}
    names = [volume["name"] for volume in inject(pod(), sidecar={"secrets": [secret]})["spec"]["volumes"]]
    assert max(map(len, names)) <= 63
    assert not any("." in name for name in names)
