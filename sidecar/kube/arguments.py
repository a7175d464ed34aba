"""What the operators' commands share: their flags, their exit codes, and how one of them is run and answers.

Decides: which flags each of them takes, and how trouble becomes a sentence and an exit code. Does not decide: what a
command does. 0 done · 1 refused, nothing was changed · 2 trouble · 3 Argo CD or Flux owns the file · 4 not all pods.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import shlex
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, overload

from sidecar.kube import names
from sidecar.offline.files import GOOD, PROBLEMS, TROUBLE, add_format, exit_code, print_json, print_problems
from sidecar.settings.problems import ConfigError
from sidecar.settings.units import Delay, UnfitError

__all__ = ["BEHIND", "GOOD", "OWNED", "PROBLEMS", "TROUBLE", "KubeError", "RefusedError", "Target", "Voice"]

SELECTOR = f"{names.INJECTED}=true"
OWNED = 3
BEHIND = 4
CODES = "Exit code: 0 done, 1 refused, nothing changed, 2 trouble, 3 Argo CD or Flux owns the file, 4 not all pods."


A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")


class KubeError(Exception):
    """The cluster, or kubectl, said no. `reason` is Kubernetes' word for it (NotFound, Conflict …), or ours."""

    def __init__(self, sentence: str, reason: str = "") -> None:
        super().__init__(sentence)
        self.reason = reason


class RefusedError(Exception):
    """The command won't do it, and has changed nothing. The message says why and what to do."""

    def __init__(self, sentence: str, code: int = PROBLEMS) -> None:
        super().__init__(sentence)
        self.code = code


@dataclass(frozen=True, slots=True)
class Target:
    """Which cluster, which namespace, which ConfigMaps, which pods. None: as kubectl is set up."""

    namespace: str | None = None
    context: str | None = None
    kubeconfig: str | None = None
    selector: str = SELECTOR
    name: str = names.NAME

    @property
    def live(self) -> str:
        """Name of the ConfigMap that pods mount."""
        return f"{self.name}-pins"

    @property
    def previous(self) -> str:
        """Name of the ConfigMap with what was live before."""
        return f"{self.name}-pins-previous"

    @property
    def config(self) -> str:
        """Name of the ConfigMap with sidecar.yaml."""
        return f"{self.name}-config"

    @property
    def flags(self) -> list[str]:
        """Flags for kubectl that say the cluster; `in_namespace` says the namespace, too."""
        asked = (("--context", self.context), ("--kubeconfig", self.kubeconfig))
        return [f"{flag}={value}" for flag, value in asked if value is not None]

    @property
    def in_namespace(self) -> list[str]:
        return self.flags if self.namespace is None else [*self.flags, f"--namespace={self.namespace}"]

    @property
    def again(self) -> str:
        """The flags as a person types them, to put into a command that we print."""
        asked = [("--context", self.context), ("--kubeconfig", self.kubeconfig), ("-n", self.namespace)]
        asked.append(("-l", None if self.selector == SELECTOR else self.selector))
        asked.append(("--name", None if self.name == names.NAME else self.name))
        return "".join(f" {flag} {shlex.quote(value)}" for flag, value in asked if value is not None)


def add_target(parser: argparse.ArgumentParser) -> None:
    """The flags of `Target`. They may stand before the verb, too, so they have no defaults of their own."""
    where = parser.add_argument_group("which cluster, which pods")
    plain: dict[str, Any] = {"default": argparse.SUPPRESS}
    where.add_argument("-n", "--namespace", metavar="NS", help="namespace (default: kubectl's)", **plain)
    where.add_argument("--context", metavar="NAME", help="context of the kubeconfig (default: the current)", **plain)
    where.add_argument("--kubeconfig", metavar="FILE", help="kubeconfig (default: kubectl's)", **plain)
    where.add_argument("-l", "--selector", metavar="LABELS", help=f"which pods (default: {SELECTOR})", **plain)
    where.add_argument("--name", metavar="NAME", help=f"common name of the ConfigMaps (default: {names.NAME})", **plain)


def add_common(parser: argparse.ArgumentParser) -> None:
    """`Target`'s flags and `--format`."""
    add_target(parser)
    add_format(parser)


def target_of(args: argparse.Namespace) -> Target:
    """What the flags say."""
    given = {key: getattr(args, key) for key in Target.__slots__ if getattr(args, key, None)}
    return Target(**given)


def seconds(text: str) -> float:
    """A duration as in all our files (`90s`, `2m`), or a bare 0. For argparse."""
    if text == "0":
        return 0.0
    try:
        return float(Delay.parse(text))
    except UnfitError as error:
        raise argparse.ArgumentTypeError(f"{error}: {error.fix}") from None


def plain(text: str) -> str:
    """Somebody else's words in one line that can't steer a terminal."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())


def front(argv0: str | None = None) -> str:
    """How the person called us, to print commands that can be typed: by kubectl or by `sidecar pins`."""
    called = Path(argv0 if argv0 is not None else sys.argv[0]).name
    return "kubectl model-sidecar" if called.startswith("kubectl") else "sidecar pins"


@dataclass
class Voice:
    """How a command answers: sentences as it goes, or one JSON document at its end."""

    json: bool
    answer: dict[str, Any] = field(default_factory=dict)

    def say(self, text: str) -> None:
        """A sentence for people."""
        if not self.json:
            print(text, flush=True)

    def warn(self, text: str) -> None:
        """A sentence that is no part of the answer."""
        print(text, file=sys.stderr, flush=True)

    def end(self, **more: Any) -> None:
        """The answer, under `--format json`."""
        if self.json:
            print_json({**self.answer, **more})


def run_verb(args: argparse.Namespace, verb: Callable[[argparse.Namespace, Voice], Awaitable[int]]) -> int:
    """Runs it. Trouble becomes one sentence on standard error (and in the JSON answer) and an exit code."""
    voice = Voice(args.format == "json")
    # When a command breaks off, its other kubectls are killed; asyncio then wonders where a child has gone.
    logging.getLogger("asyncio").setLevel(logging.ERROR)

    async def whole() -> int:
        return await verb(args, voice)

    try:
        return asyncio.run(whole())
    except ConfigError as error:
        if voice.json:
            voice.end(ok=False, problems=[problem.as_dict() for problem in error.problems])
        else:
            print_problems(error.problems)
        return exit_code(error)
    except (KubeError, RefusedError) as error:
        print(f"error: {error}", file=sys.stderr)
        voice.end(ok=False, error=str(error))
        return error.code if isinstance(error, RefusedError) else TROUBLE
    except KeyboardInterrupt:
        if not getattr(args, "watch", False):
            voice.end(ok=False, error="interrupted")
        raise


@overload
async def together(one: Awaitable[A], two: Awaitable[B], /) -> tuple[A, B]: ...
@overload
async def together(one: Awaitable[A], two: Awaitable[B], three: Awaitable[C], /) -> tuple[A, B, C]: ...
async def together(*jobs: Awaitable[Any]) -> tuple[Any, ...]:
    """All at once. If any fails, its error once all have ended: none is left behind to be cancelled."""
    found = await asyncio.gather(*jobs, return_exceptions=True)
    for one in found:
        if isinstance(one, BaseException):
            raise one
    return tuple(found)


def program() -> str:
    """The kubectl to run."""
    return os.environ.get("KUBECTL") or "kubectl"
