"""The real `sidecar inject-webhook`: TLS, swaps of its files under load, slow and strange clients."""

from __future__ import annotations

import contextlib
import http.client
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml

from tests.kube.tools import tool
from tests.kube.webhook_kit import (
    Injector,
    Json,
    applied,
    injector,
    ops_of,
    pod_of,
    request,
    review,
    template_data,
    validate,
)
from tests.process.kit import rss_mib, wait


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Injector]:
    """One process for all tests that leave it as it was."""
    with injector(tmp_path_factory.mktemp("injector")) as found:
        yield found


def container_of(ops: list[Json]) -> Json:
    """The sidecar in a patch."""
    (found,) = [op for op in ops if op["path"].startswith("/spec/initContainers") and "envFrom" not in op["path"]]
    value: Json = found["value"][0] if isinstance(found["value"], list) else found["value"]
    return value


# --- reviews ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["deployment", "job", "daemonset"])
def test_a_pod_of_each_kind_is_injected_by_tls(running: Injector, name: str) -> None:
    answer = running.send(review(name))
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    after = applied(pod_of(name), ops_of(answer))
    assert after["spec"]["initContainers"][0]["name"] == "model-sidecar"
    validate(after, "1.36")


def test_the_path_says_who_asked(running: Injector) -> None:
    host = review("bare")
    host["request"]["object"]["spec"]["hostNetwork"] = True
    denied = running.send(host, "/inject/pod").json()["response"]
    assert (denied["allowed"], denied["status"]["code"]) == (False, 403)
    skipped = running.send(host, "/inject/namespace").json()["response"]
    assert (skipped["allowed"], len(skipped["warnings"]) >= 1) == (True, True)


def test_many_reviews_on_one_connection(running: Injector) -> None:
    with contextlib.closing(running.connect()) as connection:
        for _ in range(20):
            assert request(connection, review("deployment"), "/inject/pod").status == 200


def test_two_hundred_at_once(running: Injector) -> None:
    before = running.metric('model_sidecar_injections_total{asked_by="namespace",result="injected"}') or 0
    with ThreadPoolExecutor(200) as pool:
        answers = list(pool.map(lambda _: running.send(review("bare"), "/inject/namespace"), range(200)))
    assert {answer.status for answer in answers} == {200}
    assert {answer.json()["response"]["uid"] for answer in answers} == {review("bare")["request"]["uid"]}
    after = running.metric('model_sidecar_injections_total{asked_by="namespace",result="injected"}')
    assert after == before + 200


@pytest.mark.parametrize(
    ("body", "more", "status", "words"),
    [
        (b"{", {}, 400, "The body is not valid JSON."),
        (b"[]", {}, 400, "The body is not an AdmissionReview"),
        (b"{}", {"method": "PUT"}, 405, "Reviews are sent by POST."),
        (b"{}", {"Content_Type": "application/yaml"}, 415, "Content-Type application/json"),
        (b" " * (3 * 1024**2 + 1), {}, 413, "larger than 3 MiB"),
        (b"{}", {"path": "/mutate"}, 404, "There is nothing here"),
    ],
)
def test_what_is_no_review_gets_a_sentence(
    running: Injector, body: bytes, more: dict[str, str], status: int, words: str
) -> None:
    answer = running.send(body, **more)  # type: ignore[arg-type]
    assert answer.status == status
    assert (answer.json()["kind"], answer.json()["code"]) == ("Status", status)
    assert words in answer.json()["message"]


def test_a_body_of_unknown_length_that_is_too_large_is_cut_off(running: Injector) -> None:
    with contextlib.closing(running.connect()) as connection:
        pieces = (b" " * 65536 for _ in range(60))
        with contextlib.suppress(OSError):  # the answer may come before the whole body is written
            connection.request("POST", "/inject/pod", pieces, {"Content-Type": "application/json"}, encode_chunked=True)
        assert connection.getresponse().status == 413


def test_what_is_not_http_gets_a_bare_answer(running: Injector) -> None:
    with running.raw() as client:
        client.sendall(b"GET / HTTP/1.1\r\nAuthorization: Bearer sk-hidden\r\nbad header\r\n\r\n")
        answer = client.recv(65536)
    assert b" 400 Bad Request\r\n" in answer
    assert b"sk-hidden" not in answer
    assert b"Bearer sk-hidden" not in running.process.said().encode()


def test_plain_http_on_the_tls_port_hurts_nobody(running: Injector) -> None:
    host, _, port = running.listen.rpartition(":")
    plain = contextlib.closing(http.client.HTTPConnection(host, int(port), timeout=10))
    with plain as connection, pytest.raises((OSError, http.client.HTTPException)):
        connection.request("GET", "/healthz")
        connection.getresponse()
    assert running.send(review("bare")).status == 200


def test_slow_clients_hold_up_nobody_and_are_let_go(running: Injector) -> None:
    head = b"POST /inject/pod HTTP/1.1\r\n"
    with contextlib.ExitStack() as stack:
        headless, *slow = [stack.enter_context(running.raw()) for _ in range(20)]
        headless.sendall(head)
        for client in slow:
            client.sendall(head + b"Host: x\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{")
        began = time.monotonic()
        assert running.send(review("bare")).status == 200
        assert time.monotonic() - began < 5
        assert slow[0].recv(4096).startswith(b"HTTP/1.1 408 ")
        assert headless.recv(1) == b""


@pytest.mark.parametrize(("version", "fine"), [("-tls1_1", False), ("-tls1_2", True), ("-tls1_3", True)])
def test_old_tls_is_refused(running: Injector, version: str, fine: bool) -> None:
    words = ["openssl", "s_client", version, "-cipher", "DEFAULT@SECLEVEL=0", "-connect", running.listen]
    done = subprocess.run(words, input=b"", capture_output=True, timeout=20, check=False)
    assert (done.returncode == 0) is fine


# --- health ----------------------------------------------------------------------------------------------------------


def test_health_is_plain_http(running: Injector) -> None:
    assert running.get("/healthz").json() == {"status": "ok"}
    assert running.get("/readyz").json() == {"status": "ready"}
    assert running.get("/pins").status == 404


def test_metrics_are_as_prometheus_wants_them(running: Injector) -> None:
    running.send(review("bare"))
    body = running.get("/metrics").body
    if promtool := tool("promtool"):
        done = subprocess.run([promtool, "check", "metrics"], input=body, capture_output=True, timeout=30, check=False)
        assert (done.returncode, done.stderr) == (0, b"")
    text = body.decode()
    assert 'model_sidecar_injections_total{asked_by="pod",result="denied"}' in text
    assert 'model_sidecar_injection_template_info{sha256="' in text


def test_the_certificates_end_is_a_metric(running: Injector) -> None:
    expires_at = running.metric("model_sidecar_injection_certificate_expiry_timestamp_seconds")
    assert expires_at == pytest.approx(time.time() + 30 * 86400, abs=600)


def test_each_decision_is_one_line_of_the_log(running: Injector) -> None:
    marked = review("deployment")
    marked["request"]["uid"] = "uid-of-this-test"
    running.send(marked)
    lines = wait(lambda: [line for line in running.process.log() if line.get("uid") == "uid-of-this-test"])
    assert [(line["message"], line["result"], line["generate_name"]) for line in lines] == [
        ("review", "injected", "shop-6d5f8b7c9d-")
    ]
    assert "proxy.corp.example" not in running.process.said()


def test_it_stays_small(running: Injector) -> None:
    running.send(review("deployment"))
    assert rss_mib(running.process.popen.pid) < 250  # the figure itself stands in docs/kubernetes.md


# --- swaps -----------------------------------------------------------------------------------------------------------


def serial(running: Injector) -> str:
    with running.raw() as client:
        found = client.getpeercert()
        assert found
        return str(found["serialNumber"])


def test_a_certificate_is_swapped_under_load_and_no_review_is_lost(tmp_path: Path) -> None:
    with injector(tmp_path) as running:
        first, stop, statuses = serial(running), threading.Event(), []

        def load() -> None:
            while not stop.is_set():
                statuses.append(running.send(review("bare")).status)

        threads = [threading.Thread(target=load) for _ in range(8)]
        for thread in threads:
            thread.start()
        try:
            with contextlib.closing(running.connect()) as kept:
                request(kept, review("bare"), "/inject/pod")
                certificate, key = running.authority.issue("renewed", days=60)
                running.certificates.write({"tls.crt": certificate, "tls.key": key})
                wait(lambda: serial(running) != first)
                assert request(kept, review("bare"), "/inject/pod").status == 200
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        assert set(statuses) == {200}
        assert running.metric('model_sidecar_injection_reloads_total{file="certificate",result="ok"}') == 1
        expires_at = running.metric("model_sidecar_injection_certificate_expiry_timestamp_seconds")
        assert expires_at == pytest.approx(time.time() + 60 * 86400, abs=600)


def test_a_bad_certificate_leaves_the_old_one_and_is_counted_once(tmp_path: Path) -> None:
    with injector(tmp_path) as running:
        first = serial(running)
        (_, key), (certificate, fitting) = running.authority.issue(), running.authority.issue()
        running.certificates.write({"tls.crt": certificate, "tls.key": key})
        rejected = 'model_sidecar_injection_reloads_total{file="certificate",result="rejected"}'
        wait(lambda: running.metric(rejected) == 1)
        time.sleep(2.2)  # two further looks
        assert running.metric(rejected) == 1
        assert running.metric('model_sidecar_injection_last_reload_successful{file="certificate"}') == 0
        assert running.metric('model_sidecar_injection_last_reload_successful{file="template"}') == 1
        assert serial(running) == first
        running.certificates.write({"tls.crt": certificate, "tls.key": fitting})
        wait(lambda: running.metric('model_sidecar_injection_last_reload_successful{file="certificate"}') == 1)
        assert running.process.warned("does not belong to the certificate")
        assert running.get("/readyz").status == 200


def test_a_template_is_swapped(tmp_path: Path) -> None:
    with injector(tmp_path) as running:
        data = template_data()
        data["container"]["image"] = "model-sidecar:0.4.0"
        data["annotations"]["model-sidecar.io/version"] = "0.4.0"
        running.template.write({"injection.yaml": yaml.safe_dump(data).encode()})
        wait(lambda: container_of(ops_of(running.send(review("bare"))))["image"] == "model-sidecar:0.4.0")
        running.template.write({"injection.yaml": b"version: 1\n"})
        rejected = 'model_sidecar_injection_reloads_total{file="template",result="rejected"}'
        wait(lambda: running.metric(rejected) == 1)
        assert container_of(ops_of(running.send(review("bare"))))["image"] == "model-sidecar:0.4.0"
        infos = [x for x in running.get("/metrics").body.decode().splitlines() if "template_info{" in x]
        assert len(infos) == 1
        assert 'version="0.4.0"' in infos[0]
