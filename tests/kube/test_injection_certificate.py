"""The webhook's certificate: generated and kept, made by cert-manager, or provided."""

from __future__ import annotations

import base64
import datetime
import socket
import ssl
import threading
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from helm_python import Chart

from tests.kube import kit, schemas
from tests.kube.injection_cases import Json, chart_of, webhook_values

NAME = "model-sidecar-injection"
SECRET = f"{NAME}-certificate"
OWN = "model-sidecar"
SERVICE = f"{NAME}.{OWN}.svc"
CERT_MANAGER = "cert-manager.io/v1"
PEM = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"


def rendered(certificate: Json | None = None, **options: Any) -> list[kit.Manifest]:
    values = webhook_values(certificate=certificate or {})
    return kit.render(values, namespace=OWN, **options)


def bundles(manifests: list[kit.Manifest]) -> set[str | None]:
    """What the API server is told to trust."""
    found = kit.one(manifests, "MutatingWebhookConfiguration", NAME)["webhooks"]
    return {hook["clientConfig"].get("caBundle") for hook in found}


def files(manifests: list[kit.Manifest], folder: Path) -> dict[str, Path]:
    """The generated Secret as kubelet mounts it."""
    paths = {}
    for name, text in kit.one(manifests, "Secret", SECRET)["data"].items():
        paths[name] = folder / name
        paths[name].write_bytes(base64.b64decode(text))
    return paths


def shaken_hands(paths: dict[str, Path], name: str) -> None:
    """A TLS handshake as the API server makes it: with this CA, for this name. Raises what `ssl` raises."""
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(paths["tls.crt"], paths["tls.key"])
    trusting = ssl.create_default_context(cafile=str(paths["ca.crt"]))
    ours, theirs = socket.socketpair()

    def serve() -> None:
        try:
            serving.wrap_socket(ours, server_side=True).close()
        except (ssl.SSLError, OSError):
            ours.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        trusting.wrap_socket(theirs, server_hostname=name).close()
    finally:
        theirs.close()
        thread.join(10)


@pytest.mark.parametrize("name", [SERVICE, f"{SERVICE}.cluster.local"])
def test_the_generated_certificate_is_good_for_the_services_names(tmp_path: Path, name: str) -> None:
    shaken_hands(files(rendered(), tmp_path), name)


def test_it_is_good_for_no_other_name(tmp_path: Path) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        shaken_hands(files(rendered(), tmp_path), f"{NAME}.elsewhere.svc")


def test_it_lasts_ten_years(tmp_path: Path) -> None:
    paths = files(rendered(), tmp_path)
    for name in ("ca.crt", "tls.crt"):
        found = x509.load_pem_x509_certificate(paths[name].read_bytes())
        assert found.not_valid_after_utc - found.not_valid_before_utc == datetime.timedelta(days=3650)


def test_the_api_server_is_told_to_trust_its_authority() -> None:
    manifests = rendered()
    assert bundles(manifests) == {kit.one(manifests, "Secret", SECRET)["data"]["ca.crt"]}


def test_each_rendering_without_a_cluster_makes_another_one() -> None:
    assert bundles(rendered()) != bundles(rendered())


# --- kept ------------------------------------------------------------------------------------------------------------


@cache
def _deciding() -> Chart:
    """A chart that asks only what becomes of the Secret that the cluster has."""
    parts = {path.name: path.read_text() for path in (kit.CHART / "templates").glob("_injection*.tpl")}
    asking = """\
apiVersion: v1
kind: Secret
metadata: {name: decided}
data:
  {{- include "model-sidecar.injection.webhook.generated" (dict "root" $ "secret" .Values.secret) | nindent 2 }}
"""
    return chart_of({**parts, "decided.yaml": asking})


def decided(secret: Json) -> dict[str, str]:
    data: dict[str, str] = kit.one(kit.render({"secret": secret}, chart=_deciding()), "Secret")["data"]
    return data


def test_the_secret_that_is_there_is_kept() -> None:
    there = {"ca.crt": "Y2E=", "tls.crt": "Y3J0", "tls.key": "a2V5"}
    assert decided({"data": there}) == there


def test_what_else_stands_in_the_secret_is_left_out() -> None:
    there = {"ca.crt": "Y2E=", "tls.crt": "Y3J0", "tls.key": "a2V5"}
    assert decided({"data": {**there, "note": "eA=="}}) == there


@pytest.mark.parametrize("missing", ["ca.crt", "tls.crt", "tls.key"])
def test_half_a_secret_is_made_anew(tmp_path: Path, missing: str) -> None:
    there = {"ca.crt": "Y2E=", "tls.crt": "Y3J0", "tls.key": "a2V5"}
    there[missing] = ""
    made = decided({"data": there})
    assert set(made) == set(there)
    assert not set(made.values()) & set(there.values())


@pytest.mark.parametrize("secret", [{}, {"data": None}, {"data": {}}])
def test_without_a_secret_one_is_made(secret: Json) -> None:
    assert decided(secret)["tls.key"]


# --- cert-manager ----------------------------------------------------------------------------------------------------


def test_cert_manager_must_be_there() -> None:
    with pytest.raises(
        kit.RenderError, match=r"this cluster has no API cert-manager\.io/v1: install cert-manager, or use"
    ):
        rendered({"mode": "certManager"})


def test_cert_manager_makes_the_secret_and_tells_the_api_server() -> None:
    manifests = rendered({"mode": "certManager"}, api_versions=[CERT_MANAGER])
    assert not [m for m in manifests if m["kind"] == "Secret"]
    configuration = kit.one(manifests, "MutatingWebhookConfiguration", NAME)
    assert configuration["metadata"]["annotations"] == {"cert-manager.io/inject-ca-from": f"{OWN}/{NAME}"}
    assert bundles(manifests) == {None}
    certificate = kit.one(manifests, "Certificate", NAME)
    assert certificate["spec"]["secretName"] == SECRET
    assert certificate["spec"]["dnsNames"] == [SERVICE, f"{SERVICE}.cluster.local"]


@pytest.mark.parametrize("issuer", [{}, {"name": "company", "kind": "ClusterIssuer", "group": "cert-manager.io"}])
def test_cert_manager_understands_all_of_it(issuer: Json) -> None:
    manifests = rendered({"mode": "certManager", "issuerRef": issuer}, api_versions=[CERT_MANAGER])
    theirs = [m for m in manifests if m["apiVersion"] == CERT_MANAGER]
    assert len(theirs) == (1 if issuer else 4)
    assert [schemas.problems(m) for m in theirs] == [[]] * len(theirs)


def test_its_authority_outlives_the_certificates_that_it_signs() -> None:
    manifests = rendered({"mode": "certManager"}, api_versions=[CERT_MANAGER])
    authority = kit.one(manifests, "Certificate", f"{NAME}-ca")
    assert authority["spec"]["isCA"]
    assert authority["spec"]["issuerRef"]["name"] == f"{NAME}-self-signed"
    assert kit.one(manifests, "Issuer", f"{NAME}-self-signed")["spec"] == {"selfSigned": {}}
    assert kit.one(manifests, "Issuer", f"{NAME}-ca")["spec"] == {"ca": {"secretName": authority["spec"]["secretName"]}}
    assert kit.one(manifests, "Certificate", NAME)["spec"]["issuerRef"]["name"] == f"{NAME}-ca"


def test_an_issuer_of_your_own_signs_instead() -> None:
    issuer = {"name": "company", "kind": "ClusterIssuer", "group": "cert-manager.io"}
    manifests = rendered({"mode": "certManager", "issuerRef": issuer}, api_versions=[CERT_MANAGER])
    assert not [m for m in manifests if m["kind"] == "Issuer"]
    assert kit.one(manifests, "Certificate")["spec"]["issuerRef"] == issuer


# --- provided --------------------------------------------------------------------------------------------------------


def test_a_provided_certificate_is_mounted_and_trusted() -> None:
    manifests = rendered({"mode": "provided", "secretName": "ours", "caBundle": PEM})
    assert not [m for m in manifests if m["kind"] == "Secret"]
    assert bundles(manifests) == {base64.b64encode(PEM.encode()).decode()}
    volumes = kit.one(manifests, "Deployment", NAME)["spec"]["template"]["spec"]["volumes"]
    assert {v["secret"]["secretName"] for v in volumes if "secret" in v} == {"ours"}


@pytest.mark.parametrize(("given", "asked"), [({"caBundle": PEM}, "secretName"), ({"secretName": "ours"}, "caBundle")])
def test_a_provided_certificate_needs_a_name_and_its_authority(given: Json, asked: str) -> None:
    with pytest.raises(kit.RenderError, match=rf"mode: provided needs webhook\.certificate\.{asked}"):
        rendered({"mode": "provided", **given})


def test_an_authority_that_is_no_pem_is_refused() -> None:
    with pytest.raises(kit.RenderError, match="caBundle"):
        rendered({"mode": "provided", "secretName": "ours", "caBundle": "TUlJQg=="})
