"""Takes a pin file back in git, where Argo CD or Flux brings it into the cluster from.

Decides: which commit's content comes back, and when it would be unsafe. Never pushes, and touches that one file only.
"""

from __future__ import annotations

import os
import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path

from sidecar.kube.arguments import KubeError, RefusedError
from sidecar.settings.problems import ConfigError
from sidecar.settings.strict import parse

LIMIT_S = 60.0
MOST_COMMITS = 500


@dataclass(frozen=True, slots=True)
class Made:
    """The commit that was made, and the one whose content it restores."""

    commit: str
    restored: str


def by_hand(front: str) -> list[str]:
    """The commands for somebody who has the repository elsewhere."""
    return [
        "git log -1 --format=%H -- PATH/TO/pins.yaml     # the commit that brought the live file",
        "git checkout THAT_COMMIT^ -- PATH/TO/pins.yaml",
        "git commit -m 'Roll back the pin file' && git push",
        f"(or: {front} rollback --git REPOSITORY --file PATH/TO/pins.yaml makes that commit)",
    ]


def take_back(repository: Path, file: str, why: str | None, generation: str | None = None) -> Made:
    """Commit the content that the file had before its last change, or its last with that generation.

    Raises RefusedError, with nothing changed, and KubeError where git fails.
    """
    top = Path(_git(repository, "rev-parse", "--show-toplevel").strip())
    path = os.path.relpath((repository / file).resolve(), top.resolve())
    if path.startswith(".."):
        raise RefusedError(f"{file} is not in the repository {top}: give its path from {repository}")
    if _git(top, "status", "--porcelain", "--", path).strip():
        raise RefusedError(f"{path} has changes that are not committed: commit them or put them aside first")
    # Of a merge the whole counts: what this branch had before is what was live.
    commits = _git(top, "log", f"-{MOST_COMMITS}", "--first-parent", "--format=%H", "--", path).split()
    if not commits:
        raise RefusedError(f"git knows no commit of {path}: is it the pin file's path?")
    restored = _with_generation(top, path, commits, generation) if generation else f"{commits[0]}^"
    content = _content(top, restored, path)
    if content is None:
        raise RefusedError(_nothing_before(top, path, commits[0]))
    if content == _content(top, "HEAD", path):
        raise RefusedError(f"{path} is already what it was in {restored[:10]}: nothing to take back")
    restored = _git(top, "rev-parse", restored).strip()
    (top / path).write_bytes(content)
    message = [f"Roll back {path} to {restored[:10]}", *([why] if why else [])]
    flags = [word for part in message for word in ("-m", part)]
    try:
        # Only this path: what else is staged stays staged.
        _git(top, "commit", "--quiet", *flags, "--", path)
    except KubeError:
        _git(top, "checkout", "HEAD", "--", path)
        raise
    return Made(_git(top, "rev-parse", "HEAD").strip(), restored)


def _nothing_before(top: Path, path: str, commit: str) -> str:
    if _git(top, "rev-parse", "--is-shallow-repository").strip() == "true":
        return f"this clone is shallow, and ends at the last change of {path}: `git fetch --unshallow` first"
    moved = f"if it was moved there, `git log --follow -- {shlex.quote(path)}` knows more"
    return f"{path} came with commit {commit[:10]}: there is nothing before it to go back to; {moved}"


def _with_generation(top: Path, path: str, commits: list[str], generation: str) -> str:
    for commit in commits:
        content = _content(top, commit, path)
        if content is not None and _generation(content, path) == generation:
            return commit
    raise RefusedError(f"no commit of {path} has generation {generation}: `git log -- {path}` lists them")


def _generation(content: bytes, path: str) -> str | None:
    try:
        data = parse(content, path).data
    except ConfigError:
        return None
    return str(data["generation"]) if isinstance(data, dict) and "generation" in data else None


def _content(top: Path, commit: str, path: str) -> bytes | None:
    """The file in that commit; None if it isn't there."""
    done = _run(top, "cat-file", "blob", f"{commit}:{path}")
    return done.stdout if done.returncode == 0 else None


def _git(folder: Path, *words: str) -> str:
    done = _run(folder, *words)
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip() or done.stdout.decode(errors="replace").strip()
        raise KubeError(f"git {words[0]} in {folder}: {said or f'exit code {done.returncode}'}", "Git")
    return done.stdout.decode(errors="replace")


def _run(folder: Path, *words: str) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(
            ["git", "-C", str(folder), *words],  # noqa: S607 - the git that the person uses
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=LIMIT_S,
            check=False,
        )
    except FileNotFoundError:
        raise KubeError("there is no `git`: install it, or take the file back by hand", "NoGit") from None
    except subprocess.TimeoutExpired:
        raise KubeError(f"git {words[0]} did not end within {LIMIT_S:g} s", "Git") from None
