"""As much of a Kubernetes API server as kubectl needs to swap a pin file: honest in what it does, silent in the rest.

Over TLS, with tokens: discovery, ConfigMaps (resource versions, conflicts, dry runs, immutability, size), pods (lists
by label, annotations, proxy, exec over WebSockets), who am I, and permissions that a test takes away. What a pod's
sidecar answers is the business of the `Pod` that the test puts in: a real process, in `swap_kit.py`.
A real API server, where there is one, is in tests/cluster.
"""

from __future__ import annotations

import asyncio
import json
import re
import ssl
import subprocess
import threading
from collections.abc import Awaitable, Callable, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any, Protocol, Self

import aiohttp
from aiohttp import web

MOST_BYTES = 1024 * 1024
LIMIT_S = 20.0
_VERBS = {"GET": "get", "POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
_RESOURCES = {
    "configmaps": ("configmap", "ConfigMap", ["create", "delete", "get", "list", "patch", "update"], ["cm"]),
    "pods": ("pod", "Pod", ["create", "delete", "get", "list", "patch", "update"], ["po"]),
    "pods/exec": ("", "PodExecOptions", ["create", "get"], []),
    "pods/proxy": ("", "PodProxyOptions", ["get"], []),
}
Document = dict[str, Any]
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Pod(Protocol):
    """What a test's pod must do: be described, answer its probe port, run a command, notice that it was annotated."""

    def document(self) -> Document: ...
    def address(self, port: int) -> tuple[str, int]: ...
    def command(self, words: list[str]) -> tuple[list[str], Mapping[str, str]]: ...
    def annotated(self, configmaps: Mapping[str, Document]) -> None: ...


class Refused(Exception):
    """An answer of Kubernetes' own kind: a Status."""

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.code, self.reason = code, reason

    def answer(self) -> web.Response:
        status = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": self.code}
        return web.json_response({**status, "reason": self.reason, "message": str(self)}, status=self.code)


class Api:
    """The server, from `with` to the end of the block, in a thread of its own. State is read and written by tests."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.configmaps: dict[tuple[str, str], Document] = {}
        self.pods: dict[tuple[str, str], Pod] = {}
        self.pod_annotations: dict[tuple[str, str], dict[str, str]] = {}
        self.denied: dict[str, set[tuple[str, str]]] = {}
        """User → (verb, resource) pairs that they may not."""
        self.requests: list[str] = []
        """`PUT configmaps/name?dryRun=All` and so on, in order."""
        self.before_write: Callable[[str], None] | None = None
        """Called with each such line of a PUT or POST, just before it is judged; may block."""
        self._version = 100
        self._lock = threading.RLock()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self.port = 0

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        _certify(self.folder)
        self._thread.start()
        self.port = asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(LIMIT_S)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(LIMIT_S)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(LIMIT_S)
        self._loop.close()

    def kubeconfig(self, user: str = "alice", namespace: str = "shop") -> Path:
        """A kubeconfig with this user's token."""
        path = self.folder / f"{user}.kubeconfig"
        authority = str(self.folder / "server.crt")
        cluster = {"server": f"https://127.0.0.1:{self.port}", "certificate-authority": authority}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "test", "cluster": cluster}],
            "users": [{"name": user, "user": {"token": user}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": user, "namespace": namespace}}],
            "current-context": "test",
        }
        path.write_text(json.dumps(config))
        path.chmod(0o600)
        return path

    def put(self, document: Document) -> Document:
        """Store a ConfigMap, as anybody with all rights would."""
        with self._lock:
            self._version += 1
            stored = deepcopy(document)
            stored["metadata"]["resourceVersion"] = str(self._version)
            self.configmaps[stored["metadata"]["namespace"], stored["metadata"]["name"]] = stored
            return stored

    # --- serving -----------------------------------------------------------------------------------------------------

    async def _start(self) -> int:
        app = web.Application(client_max_size=8 * MOST_BYTES)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.folder / "server.crt", self.folder / "server.key")
        site = web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=context)
        await site.start()
        self._http = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=LIMIT_S))
        return int(self._runner.addresses[0][1])

    async def _stop(self) -> None:
        await self._http.close()
        await self._runner.cleanup()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        try:
            user = request.headers.get("Authorization", "").removeprefix("Bearer ")
            if not user:
                raise Refused(401, "Unauthorized", "Unauthorized")
            return await self._route(request, user)
        except Refused as refused:
            return refused.answer()

    async def _route(self, request: web.Request, user: str) -> web.StreamResponse:
        path = request.path
        if (found := _discovery(path)) is not None:
            return web.json_response(found)
        if path == "/apis/authentication.k8s.io/v1/selfsubjectreviews":
            self._permit(user, "create", "selfsubjectreviews", "", "")
            info = {"username": user, "groups": ["system:authenticated"]}
            return web.json_response(
                {"kind": "SelfSubjectReview", "apiVersion": "authentication.k8s.io/v1", "status": {"userInfo": info}},
                status=201,
            )
        match = re.fullmatch(r"/api/v1/namespaces/([^/]+)/(configmaps|pods)(?:/([^/]+))?(?:/(exec|proxy)(/.*)?)?", path)
        if match is None:
            raise Refused(404, "NotFound", "the server could not find the requested resource")
        namespace, resource, name, below, rest = match.groups()
        verb = "list" if request.method == "GET" and not name else _VERBS[request.method]
        whole = f"{resource}/{below}" if below else resource
        self._permit(user, verb, whole, namespace, name or "")
        if below == "proxy":
            return await self._proxy(namespace, name, rest or "/")
        if below == "exec":
            return await self._exec(request, namespace, name)
        body = json.loads(await request.read() or b"null")
        line = f"{request.method} {resource}/{name or ''}{'?dryRun=All' if _dry(request) else ''}"
        if request.method in ("PUT", "POST") and self.before_write is not None:
            await asyncio.to_thread(self.before_write, line)
        with self._lock:
            self.requests.append(line)
            of = self._configmap if resource == "configmaps" else self._pod
            return web.json_response(
                of(request, namespace, name, body), status=201 if request.method == "POST" else 200
            )

    def _permit(self, user: str, verb: str, resource: str, namespace: str, name: str) -> None:
        if (verb, resource) in self.denied.get(user, ()):
            what = f'{resource.partition("/")[0]} "{name}" is forbidden: ' if name else f"{resource} is forbidden: "
            where = f'in API group "" in the namespace "{namespace}"'
            raise Refused(403, "Forbidden", f'{what}User "{user}" cannot {verb} resource "{resource}" {where}')

    # --- ConfigMaps --------------------------------------------------------------------------------------------------

    def _configmap(self, request: web.Request, namespace: str, name: str | None, body: Any) -> Document:
        method, key = request.method, (namespace, name or "")
        if method == "GET" and name is None:
            found = [one for (space, _), one in self.configmaps.items() if space == namespace]
            return _list("ConfigMapList", _selected(request, found))
        if method == "POST":
            key = (namespace, body["metadata"]["name"])
            if key in self.configmaps:
                raise Refused(409, "AlreadyExists", f'configmaps "{key[1]}" already exists')
            return self._store(request, {**body, "metadata": {**body["metadata"], "namespace": namespace}}, None)
        old = self.configmaps.get(key)
        if old is None:
            raise Refused(404, "NotFound", f'configmaps "{name}" not found')
        if method == "GET":
            return old
        if method == "DELETE":
            return self.configmaps.pop(key)
        return self._store(request, body if method == "PUT" else _merged(old, body), old)

    def _store(self, request: web.Request, new: Document, old: Document | None) -> Document:
        name, metadata = new["metadata"]["name"], new["metadata"]
        asked = metadata.get("resourceVersion")
        if old is not None and asked and asked != old["metadata"]["resourceVersion"]:
            again = "the object has been modified; please apply your changes to the latest version and try again"
            raise Refused(409, "Conflict", f'Operation cannot be fulfilled on configmaps "{name}": {again}')
        if old is not None and old.get("immutable") and old.get("data") != new.get("data"):
            raise Refused(
                422,
                "Invalid",
                f'ConfigMap "{name}" is invalid: data: Forbidden: field is immutable when `immutable` is set',
            )
        if sum(len(value.encode()) for value in (new.get("data") or {}).values()) > MOST_BYTES:
            raise Refused(
                422, "Invalid", f'ConfigMap "{name}" is invalid: []: Too long: may not be more than 1048576 bytes'
            )
        return deepcopy(new) if _dry(request) else self.put(new)

    # --- pods --------------------------------------------------------------------------------------------------------

    def _pod(self, request: web.Request, namespace: str, name: str | None, body: Any) -> Document:
        if request.method == "GET" and name is None:
            found = [self._document(key) for key in list(self.pods) if key[0] == namespace]
            return _list("PodList", _selected(request, found))
        key = (namespace, name or "")
        self._known(key)
        if request.method == "PATCH":
            mine = self.pod_annotations.get(key, {})
            asked = mine | body.get("metadata", {}).get("annotations", {})
            if asked == mine:  # as in a real one: no change, so nobody hears of it
                return self._document(key)
            self.pod_annotations[key] = asked
            here = {one: document for (space, one), document in self.configmaps.items() if space == namespace}
            self.pods[key].annotated(here)
        return self._document(key)

    def _known(self, key: tuple[str, str]) -> Pod:
        if key not in self.pods:
            raise Refused(404, "NotFound", f'pods "{key[1]}" not found')
        return self.pods[key]

    def _document(self, key: tuple[str, str]) -> Document:
        document = self.pods[key].document()
        document["metadata"]["annotations"] = self.pod_annotations.get(key, {})
        return document

    async def _proxy(self, namespace: str, name: str, path: str) -> web.Response:
        pod, _, port = name.partition(":")
        host, number = self._known((namespace, pod)).address(int(port))
        try:
            async with self._http.get(f"http://{host}:{number}{path}") as answer:
                return web.Response(status=answer.status, body=await answer.read(), content_type="text/plain")
        except aiohttp.ClientError:
            why = f"dial tcp {host}:{number}: connect: connection refused"
            raise Refused(503, "ServiceUnavailable", f"error trying to reach service: {why}") from None

    async def _exec(self, request: web.Request, namespace: str, name: str) -> web.StreamResponse:
        """kubectl's channels: 1 standard output, 2 standard error, 3 how it ended."""
        pod = self._known((namespace, name))
        assert request.query["container"] == "model-sidecar"
        words, env = pod.command(request.query.getall("command"))
        socket = web.WebSocketResponse(protocols=("v5.channel.k8s.io",))
        await socket.prepare(request)
        process = await asyncio.create_subprocess_exec(
            *words, env=dict(env), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        out, err = await process.communicate()
        for channel, data in ((1, out), (2, err)):
            if data:
                await socket.send_bytes(bytes([channel]) + data)
        await socket.send_bytes(b"\x03" + json.dumps(_ended(process.returncode or 0)).encode())
        await socket.close()
        return socket


def _ended(code: int) -> Document:
    if code == 0:
        return {"metadata": {}, "status": "Success"}
    return {
        "metadata": {},
        "status": "Failure",
        "message": f"command terminated with non-zero exit code: exit status {code}",
        "reason": "NonZeroExitCode",
        "details": {"causes": [{"reason": "ExitCode", "message": str(code)}]},
    }


def _merged(old: Any, patch: Any) -> Any:
    """RFC 7386; for what kubectl patches here, a strategic merge is the same."""
    if not isinstance(patch, dict):
        return patch
    new = dict(old) if isinstance(old, dict) else {}
    for key, value in patch.items():
        if value is None:
            new.pop(key, None)
        else:
            new[key] = _merged(new.get(key), value)
    return new


def _dry(request: web.Request) -> bool:
    return request.query.get("dryRun") == "All"


def _list(kind: str, items: list[Document]) -> Document:
    return {"kind": kind, "apiVersion": "v1", "metadata": {"resourceVersion": "1"}, "items": items}


def _selected(request: web.Request, found: list[Document]) -> list[Document]:
    """Selectors of the kind key=value and key, joined by commas."""
    for part in filter(None, request.query.get("labelSelector", "").split(",")):
        key, _, value = part.partition("=")
        found = [one for one in found if key in (labels := one["metadata"].get("labels", {})) and labels[key] == value]
    return found


def _discovery(path: str) -> Document | None:
    group = {"groupVersion": "authentication.k8s.io/v1", "version": "v1"}
    reviews = {"name": "selfsubjectreviews", "namespaced": False, "kind": "SelfSubjectReview", "verbs": ["create"]}
    core = [
        {"name": name, "singularName": one, "namespaced": True, "kind": kind, "verbs": verbs, "shortNames": short}
        for name, (one, kind, verbs, short) in _RESOURCES.items()
    ]
    return {
        "/version": {"major": "1", "minor": "36", "gitVersion": "v1.36.0-test"},
        "/api": {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []},
        "/apis": {
            "kind": "APIGroupList",
            "apiVersion": "v1",
            "groups": [{"name": "authentication.k8s.io", "versions": [group], "preferredVersion": group}],
        },
        "/api/v1": {"kind": "APIResourceList", "groupVersion": "v1", "resources": core},
        "/apis/authentication.k8s.io/v1": {
            "kind": "APIResourceList",
            "groupVersion": group["groupVersion"],
            "resources": [reviews],
        },
    }.get(path)


def _certify(folder: Path) -> None:
    """A certificate for 127.0.0.1, its own authority."""
    words = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    words += ["-keyout", str(folder / "server.key"), "-out", str(folder / "server.crt"), "-days", "2"]
    words += ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(words, check=True, capture_output=True, timeout=LIMIT_S)
