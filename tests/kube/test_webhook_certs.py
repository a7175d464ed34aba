"""Certificates and templates that change under a running process."""

from __future__ import annotations

import contextlib
import ssl
import time
from pathlib import Path

import pytest

from sidecar.kube.injection.certs import Certificate, not_after
from sidecar.kube.injection.reload import Mounted
from sidecar.settings.problems import ConfigError
from tests.kube.webhook_kit import Authority, Mount, _openssl


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


def seen_by(authority: Authority, context: ssl.SSLContext) -> str:
    """The common name that a client sees, over a handshake in memory."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = context.wrap_bio(incoming, outgoing, server_side=True)
    client = authority.trust().wrap_bio(outgoing, incoming, server_hostname="localhost")
    for _ in range(4):
        for side in (client, server):
            with contextlib.suppress(ssl.SSLWantReadError):
                side.do_handshake()
    found = client.getpeercert()
    assert found
    return dict(part[0] for part in found["subject"])["commonName"]


def pair() -> Certificate:
    return Certificate(Path("/tls/tls.crt"), Path("/tls/tls.key"))


def refused(certificate: Certificate, *parts: bytes) -> str:
    with pytest.raises(ConfigError) as caught:
        certificate.load(list(parts))
    return str(caught.value)


def test_new_connections_get_the_new_certificate(authority: Authority) -> None:
    served = pair()
    served.load(list(authority.issue("first")))
    assert seen_by(authority, served.context) == "first"
    served.load(list(authority.issue("second")))
    assert seen_by(authority, served.context) == "second"


def test_what_cannot_be_served_is_refused_by_name_and_leaves_the_old_pair(authority: Authority) -> None:
    served, (good, key), (_, other) = pair(), authority.issue("old"), authority.issue()
    served.load([good, key])
    expires_at = served.expires_at
    broken = good[:100] + b"!!!!" + good[104:]
    encrypted = b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIB\n-----END ENCRYPTED PRIVATE KEY-----\n"
    for parts, words in {
        (good, other): "/tls/tls.key: does not belong to the certificate in /tls/tls.crt",
        (b"", key): "/tls/tls.crt: holds no PEM certificate",
        (key, good): "/tls/tls.crt: holds no PEM certificate",
        (good, b""): "/tls/tls.key: holds no PEM private key",
        (good, encrypted): "/tls/tls.key: is encrypted",
        (broken, key): "/tls/tls.crt: ",
        (good[:200], key): "/tls/tls.crt: holds a certificate that is cut or damaged",
    }.items():
        assert refused(served, *parts).startswith(words)
        assert seen_by(authority, served.context) == "old"
    assert served.expires_at == expires_at


def test_only_modern_tls_is_spoken(authority: Authority) -> None:
    assert pair().context.minimum_version == ssl.TLSVersion.TLSv1_2


@pytest.mark.parametrize("days", [1, 90, 36500])  # the last in a GeneralizedTime: after 2049
def test_the_end_of_a_certificate_is_read(authority: Authority, days: int) -> None:
    certificate, _ = authority.issue(days=days)
    expires_at = not_after(ssl.PEM_cert_to_DER_cert(certificate.decode()))
    assert expires_at == pytest.approx(time.time() + days * 86400, abs=60)


def test_it_agrees_with_openssl(authority: Authority, tmp_path: Path) -> None:
    key, out = tmp_path / "key", tmp_path / "out"
    _openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", out, "-subj", "/CN=rsa")
    end = ssl.cert_time_to_seconds(ssl._ssl._test_decode_cert(str(out))["notAfter"])  # type: ignore[attr-defined]
    assert not_after(ssl.PEM_cert_to_DER_cert(out.read_text())) == end


def test_bytes_that_are_no_certificate_have_no_end() -> None:
    for data in (b"", b"\x30", b"\x30\x82\xff\xff", b"\x30\x03\x02\x01\x01", bytes(64)):
        assert not_after(data) is None


# --- looking at files ------------------------------------------------------------------------------------------------


class Used:
    """What was used so far; refuses `bad`."""

    def __init__(self) -> None:
        self.parts: list[list[bytes]] = []

    def __call__(self, parts: list[bytes]) -> None:
        if b"bad" in parts:
            raise ConfigError([_problem()])
        self.parts.append(parts)


def _problem() -> object:
    from sidecar.settings.problems import Problem

    return Problem("file", None, "", "is bad", "")


def test_a_swapped_mount_is_used_once(tmp_path: Path) -> None:
    mount, used = Mount(tmp_path / "mount"), Used()
    mount.write({"a": b"1", "b": b"2"})
    files = Mounted("pair", [mount / "a", mount / "b"], used)
    files.load()
    assert files.look() is None
    mount.write({"a": b"3", "b": b"4"})
    assert (files.look(), files.look()) == ("ok", None)
    assert used.parts == [[b"1", b"2"], [b"3", b"4"]]


def test_a_swap_to_the_same_bytes_is_none(tmp_path: Path) -> None:
    mount, used = Mount(tmp_path / "mount"), Used()
    mount.write({"a": b"1"})
    files = Mounted("file", [mount / "a"], used)
    files.load()
    mount.write({"a": b"1"})
    assert files.look() is None


def test_a_bad_file_is_told_once_and_a_good_one_heals_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path, used = tmp_path / "a", Used()
    path.write_bytes(b"good")
    files = Mounted("file", [path], used)
    files.load()
    path.write_bytes(b"bad")
    assert (files.look(), files.look()) == ("rejected", None)
    assert [r.getMessage() for r in caplog.records] == ["the old file stays in use: file: is bad"]
    path.write_bytes(b"better")
    assert files.look() == "ok"
    assert used.parts[-1] == [b"better"]


def test_a_file_that_goes_away_is_told_once_and_looked_for_again(tmp_path: Path) -> None:
    path, used = tmp_path / "a", Used()
    path.write_bytes(b"good")
    files = Mounted("file", [path], used)
    files.load()
    path.unlink()
    assert (files.look(), files.look()) == ("rejected", None)
    path.write_bytes(b"good")
    assert files.look() == "ok"
