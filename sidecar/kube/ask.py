"""`sidecar admin`: asks the sidecar of this pod, at its admin port. Starts fast: the kill switch runs it in every pod.

Exit code: 0 done, 1 not (not ready, or refused), 2 no sidecar answers, 3 there is no such pin or variant.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import sys

from sidecar.kube.names import ADMIN_PORT

LIMIT_S = 10.0
NO_SUCH = 3
_PATHS = {"pins": "/pins", "ready": "/readyz", "metrics": "/metrics"}
_ABOUT = {
    "pins": "what is pinned, and how that stands",
    "ready": "whether it is ready to serve",
    "metrics": "its metrics, as Prometheus reads them",
}


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds this command's arguments."""
    parser.description = "Asks the sidecar of this pod, by its admin port. Exit code: 0 done, 1 not, 2 no sidecar."
    verbs = parser.add_subparsers(dest="admin_command", metavar="COMMAND", required=True)
    for verb, about in _ABOUT.items():
        _where(verbs.add_parser(verb, help=about, description=about))
    about = "stop a variant of a pin: it takes no units until another pin file is accepted (exit code 3: no such)"
    stop = verbs.add_parser("stop", help="stop a variant of a pin", description=about)
    stop.add_argument("pin", metavar="NAME", help="the pinned name")
    stop.add_argument("variant", metavar="VARIANT", help="its variant")
    _where(stop)


def _where(parser: argparse.ArgumentParser) -> None:
    default = f"127.0.0.1:{ADMIN_PORT}"
    parser.add_argument("--admin", metavar="HOST:PORT", help=f"admin port (SIDECAR_ADMIN_LISTEN; default: {default})")


def run(args: argparse.Namespace) -> int:
    """Asks, and prints the answer."""
    address = args.admin or os.environ.get("SIDECAR_ADMIN_LISTEN") or f"127.0.0.1:{ADMIN_PORT}"
    stop = {"pin": args.pin, "variant": args.variant} if args.admin_command == "stop" else None
    try:
        status, body = _ask(address, _PATHS.get(args.admin_command, "/pins/stop"), stop)
    except (OSError, http.client.HTTPException, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error) or type(error).__name__
        fix = "is it running, and is this its `admin.listen`? (--admin, SIDECAR_ADMIN_LISTEN)"
        print(f"error: no sidecar answers at {address}: {why}: {fix}", file=sys.stderr)
        return 2
    if status == 200:
        sys.stdout.buffer.write(body if body.endswith(b"\n") else body + b"\n")
        sys.stdout.flush()
        return 0
    return _refused(status, body, address)


def _refused(status: int, body: bytes, address: str) -> int:
    try:
        said = json.loads(body)
        error = said["error"]["message"] if "error" in said else said["reason"]
    except (ValueError, KeyError, TypeError):
        print(f"error: what answers at {address} is no sidecar's admin port: HTTP {status}", file=sys.stderr)
        return 2
    print(f"error: {error}", file=sys.stderr)
    return NO_SUCH if status == 404 else 1


def _ask(address: str, path: str, body: dict[str, str] | None) -> tuple[int, bytes]:
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise ValueError("this is no HOST:PORT")
    connection = http.client.HTTPConnection(host.strip("[]"), int(port), timeout=LIMIT_S)
    try:
        method = "GET" if body is None else "POST"
        payload = None if body is None else json.dumps(body)
        connection.request(method, path, payload, {"Content-Type": "application/json"} if payload else {})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()
