"""Runs the real kubectl, so that all its ways to log in come with it, and says in a sentence what it could not do.

Decides: how a failure of kubectl reads and which fix it names. Does not decide: what is asked of the cluster.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sidecar.kube.arguments import KubeError, Target, program

AT_ONCE = 16
"""Processes at a time: each is a kubectl of some 50 MiB."""
LIMIT_S = 60.0
"""Long, since a person may have to log in meanwhile."""
MANAGER = "model-sidecar"
"""Our name as a field manager."""
_LOG = re.compile(r"[EWIF][0-9]{4} |Warning: ")
_SERVER = re.compile(r"Error from server \((\w+)\):?\s*(.*)", re.DOTALL)
_FORBIDDEN = re.compile(r'User "(.*?)" cannot (\w+) resource "(.*?)".*?(?:in the namespace "(.*?)")?$', re.MULTILINE)
_READING = frozenset({("get", "configmaps"), ("list", "configmaps"), ("get", "pods"), ("list", "pods")}) | {
    ("get", "pods/proxy")
}
_UNREACHABLE = ("was refused", "unable to connect", "no such host", "i/o timeout", "no configuration has been provided")
_REQUEST = re.compile(r"""^.*?(?:Get|Put|Post|Patch) ["'].*?["']: """)
"""What kubectl, being in Go, puts before the trouble of a connection."""


@dataclass(frozen=True, slots=True)
class Done:
    """How a kubectl ended."""

    code: int
    out: str
    err: str

    @property
    def said(self) -> str:
        """What it said of its trouble, without log lines and warnings."""
        lines = [line for line in self.err.splitlines() if line.strip() and not _LOG.match(line)]
        return "\n".join(lines) or self.err.strip()


class Kubectl:
    """kubectl with the flags of one `Target`."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self._gate = asyncio.Semaphore(AT_ONCE)
        self._first = asyncio.Lock()
        self._known = False

    async def run(self, words: Sequence[str], *, stdin: str | None = None, limit_s: float = LIMIT_S) -> Done:
        """Any command, whatever its exit code. Raises KubeError where it can't be run, or doesn't end in time."""
        given = None if stdin is None else stdin.encode()
        if not self._known:
            async with self._first:  # alone: a login by browser is asked for once, not by each
                if not self._known:
                    try:
                        return await self._run(words, given, limit_s)
                    finally:
                        self._known = True
        async with self._gate:
            return await self._run(words, given, limit_s)

    async def _run(self, words: Sequence[str], stdin: bytes | None, limit_s: float) -> Done:
        # A task of its own: cancelled half-way through its start, asyncio's subprocess waits forever.
        start = asyncio.ensure_future(_start(words, piped=stdin is not None))
        try:
            process = await asyncio.shield(start)
        except asyncio.CancelledError:
            await _end(await start)
            raise
        try:
            async with asyncio.timeout(limit_s):
                out, err = await process.communicate(stdin)
        except TimeoutError:
            what = " ".join(words[:2])
            sentence = f"`kubectl {what}` did not end within {limit_s:g} s: is the cluster reachable?"
            raise KubeError(sentence, "Timeout") from None
        finally:
            await _end(process)
        assert process.returncode is not None
        return Done(process.returncode, out.decode(errors="replace"), err.decode(errors="replace"))

    async def ask(self, *words: str, stdin: str | None = None, limit_s: float = LIMIT_S) -> str:
        """What a command in the target's namespace prints. Raises KubeError with a sentence."""
        done = await self.run([*words, *self.target.in_namespace], stdin=stdin, limit_s=limit_s)
        if done.code:
            raise trouble(done, self.target)
        return done.out

    async def read(self, *words: str) -> list[dict[str, Any]]:
        """`kubectl get …` as objects: of a list its items, of nothing none."""
        text = await self.ask("get", *words, "-o", "json", "--ignore-not-found")
        if not text.strip():
            return []
        found = json.loads(text)
        items: list[dict[str, Any]] = found["items"] if found["kind"].endswith("List") else [found]
        return items

    async def write(self, document: dict[str, Any], *words: str, manager: str = MANAGER) -> dict[str, Any]:
        """One object by `kubectl create`, `replace` or `apply --server-side`; answers it as it is stored."""
        rest = ["-f", "-", "-o", "json", f"--field-manager={manager}", "--validate=false"]
        written: dict[str, Any] = json.loads(await self.ask(*words, *rest, stdin=json.dumps(document)))
        return written

    async def raw(self, path: str, limit_s: float) -> str:
        """`kubectl get --raw`: the path says the namespace."""
        done = await self.run(["get", "--raw", path, *self.target.flags], limit_s=limit_s)
        if done.code:
            raise trouble(done, self.target)
        return done.out


async def _start(words: Sequence[str], *, piped: bool) -> asyncio.subprocess.Process:
    """A kubectl that runs. Raises KubeError where there is none."""
    pipe, null = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
    try:
        return await asyncio.create_subprocess_exec(
            # Never our own input: kubectl would ask for a password there, sixteen at once.
            program(), *words, stdin=pipe if piped else null, stdout=pipe, stderr=pipe
        )  # fmt: skip
    except FileNotFoundError:
        sentence = f"there is no `{program()}`: install kubectl 1.28 or later, or name it by the variable KUBECTL"
        raise KubeError(sentence, "NoKubectl") from None
    except OSError as error:
        raise KubeError(f"`{program()}` cannot be run: {error.strerror}: check KUBECTL", "NoKubectl") from None


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.kill()
        await process.wait()


def trouble(done: Done, target: Target) -> KubeError:
    """kubectl's failure as a sentence that names the fix."""
    said = done.said
    low = f"{said}\n{done.out[:200]}".lower()  # a question for a user's name stands on standard output
    if (match := _SERVER.search(said)) is not None:
        reason, text = match[1], match[2].strip()
        if reason == "Forbidden":
            return KubeError(_forbidden(text, target), reason)
        return KubeError(text or said, reason)
    if "the object has been modified" in said:  # as `apply --server-side` says it
        return KubeError(_last(said), "Conflict")
    if "is forbidden: " in said and _FORBIDDEN.search(said):  # as exec says it
        return KubeError(_forbidden(said, target), "Forbidden")
    if "unknown flag" in low or "unknown command" in low or "unknown shorthand" in low:
        return KubeError(f"this kubectl is too old ({said.splitlines()[0]}): use 1.28 or later", "TooOld")
    if "logged in" in low or "unauthorized" in low or "please enter username" in low:
        return KubeError("the cluster does not know you: log in again, as you do for kubectl", "Unauthorized")
    if "context" in low and ("does not exist" in low or "not found" in low):
        return KubeError(f"{_last(said)}: `kubectl config get-contexts` lists those that exist", "NoContext")
    why, broken = _REQUEST.subn("", _last(said))
    if broken or any(word in low for word in _UNREACHABLE):
        return KubeError(f"the cluster cannot be reached: {why}: check --context and network", "NoCluster")
    return KubeError(_last(said) or f"kubectl ended with exit code {done.code} and no word")


def _last(text: str) -> str:
    return text.strip().splitlines()[-1].removeprefix("error: ") if text.strip() else ""


def _forbidden(text: str, target: Target) -> str:
    match = _FORBIDDEN.search(text)
    if match is None:
        return f"forbidden: {text}"
    user, verb, resource, namespace = match.groups()
    role = f"{target.name}-{'viewer' if (verb, resource) in _READING else 'operator'}"
    where = f" in namespace {namespace}" if namespace else ""
    return f"{user} may not {verb} {resource}{where}: ask for the chart's Role {role} there (value `rbac`)"
