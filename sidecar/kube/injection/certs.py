"""The certificate that the API server sees, swapped while the server runs.

Decides: whether a certificate and its key can be served, before the served pair is touched. New connections get the
new pair, open ones keep theirs.
Does not decide: whether anybody trusts it (`caBundle` in the webhook's configuration), nor when to look (`reload`).
"""

from __future__ import annotations

import os
import ssl
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from sidecar.settings.problems import ConfigError, Problem

_BEGIN = "-----BEGIN CERTIFICATE-----"
_END = "-----END CERTIFICATE-----"
_SEQUENCE, _VERSION, _UTC_TIME = 0x30, 0xA0, 0x17


class Certificate:
    """`context` serves the pair that was loaded last."""

    def __init__(self, certificate: Path, key: Path) -> None:
        self.paths = (certificate, key)
        self.context = _context()
        self.expires_at: float | None = None  # seconds since the epoch

    def load(self, parts: list[bytes]) -> None:
        """Serve this certificate (with its chain) and key. Raises ConfigError, and serves the old pair on."""
        certificate, key = parts
        self._check(certificate, key)
        expires_at = not_after(self._der(certificate))
        # From memory, both from one read: the files may be swapped once more between a trial and the real load.
        with _file_of(certificate + b"\n" + key) as path:
            try:
                _context().load_cert_chain(path, password=_no_passphrase)
            except (ssl.SSLError, OSError, ValueError) as error:
                if getattr(error, "reason", None) == "KEY_VALUES_MISMATCH":
                    fix = "write both from the same issue; a Secret mounted as a directory swaps them together"
                    raise self._problem(1, f"does not belong to the certificate in {self.paths[0]}", fix) from None
                raise self._problem(0, "and its key can't be served by OpenSSL", "issue both anew") from None
            self.context.load_cert_chain(path, password=_no_passphrase)
        self.expires_at = expires_at

    def _check(self, certificate: bytes, key: bytes) -> None:
        if _BEGIN.encode() not in certificate:
            raise self._problem(0, "holds no PEM certificate", "write the certificate, then its chain, in PEM")
        if b"ENCRYPTED" in key:
            raise self._problem(1, "is encrypted, and nobody is there to type its passphrase", "write it in the clear")
        if b"PRIVATE KEY-----" not in key:
            raise self._problem(1, "holds no PEM private key", "write the certificate's key in PEM")

    def _der(self, certificate: bytes) -> bytes:
        text = certificate.decode("ascii", "replace")
        begin = text.index(_BEGIN)
        end = text.find(_END, begin)
        try:
            return ssl.PEM_cert_to_DER_cert(text[begin : end + len(_END)] if end > 0 else "")
        except ValueError:
            raise self._problem(0, "holds a certificate that is cut or damaged", "write it anew") from None

    def _problem(self, index: int, message: str, fix: str) -> ConfigError:
        return ConfigError([Problem(str(self.paths[index]), None, "", message, fix)])


def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return context


def _no_passphrase() -> str:
    """Without this, OpenSSL would ask the terminal."""
    return ""


@contextmanager
def _file_of(data: bytes) -> Iterator[str]:
    """A path under which OpenSSL finds `data`. On Linux it is in memory only: the root may be read-only."""
    if sys.platform == "linux":
        handle = os.memfd_create("certificate")
        try:
            with os.fdopen(os.dup(handle), "wb") as file:
                file.write(data)
            yield f"/proc/self/fd/{handle}"
        finally:
            os.close(handle)
    else:
        with tempfile.NamedTemporaryFile() as file:
            file.write(data)
            file.flush()
            yield file.name


def not_after(der: bytes) -> float | None:
    """When an X.509 certificate (RFC 5280, section 4.1) expires; None where that can't be read.

    The standard library parses a certificate only while it verifies one, and no more is needed here than one field.
    """
    try:
        _, fields, _ = _element(_element(der)[1])
        tag, _, rest = _element(fields)
        if tag == _VERSION:
            _, _, rest = _element(rest)  # the serial number
        for _ in range(2):  # the signature's algorithm, the issuer
            _, _, rest = _element(rest)
        tag, validity, _ = _element(rest)
        if tag != _SEQUENCE:
            return None
        tag, text, _ = _element(_element(validity)[2])
        digits = text.decode("ascii")
        if tag == _UTC_TIME:  # two digits of the year: 50 to 99 are the last century's
            digits = ("20" if digits < "50" else "19") + digits
        return datetime.strptime(digits, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC).timestamp()
    except (IndexError, ValueError):
        return None


def _element(data: bytes) -> tuple[int, bytes, bytes]:
    """The first DER element: its tag, its content, and what follows it."""
    length, start = data[1], 2
    if length & 0x80:
        start += length & 0x7F
        length = int.from_bytes(data[2:start], "big")
    if start + length > len(data):
        raise ValueError("cut")
    return data[0], data[start : start + length], data[start + length :]
