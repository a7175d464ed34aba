"""The ConfigMaps with pin files, read and written by kubectl.

Decides: on which conditions they are written. Does not decide: what stands in them (`configmaps.py`), or whether and in
which order it should (`swap.py`).
"""

from __future__ import annotations

import getpass
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sidecar.kube import configmaps, names
from sidecar.kube.arguments import KubeError, RefusedError, Target
from sidecar.kube.configmaps import Kept, Stamp, kept, readable
from sidecar.kube.kubectl import MANAGER, Kubectl
from sidecar.settings.options import SidecarFile
from sidecar.settings.problems import ConfigError
from sidecar.settings.static import Settings
from sidecar.settings.staticcheck import Overrides, compile_settings
from sidecar.settings.strict import Document, parse
from sidecar.settings.validate import convert

HELM = "helm"
"""Helm 4's name as a field manager."""
_ANYWHERE = Path("/etc/model-sidecar/config/sidecar.yaml")
"""Where it is mounted. Only messages show it."""


@dataclass(frozen=True, slots=True)
class Stock:
    """What is there: the live file, the one before it, and the fleet's sidecar.yaml as text."""

    live: Kept
    previous: Mapping[str, Any] | None
    config: str | None


class Store:
    """The ConfigMaps of one `Target`."""

    def __init__(self, kubectl: Kubectl) -> None:
        self._kubectl = kubectl
        self.target = kubectl.target

    async def stock(self) -> Stock:
        """Raises KubeError, or RefusedError where there is no live file."""
        target = self.target
        wanted = (target.live, target.previous, target.config)
        found = await self._kubectl.read("configmaps", *wanted, "--show-managed-fields")
        by_name = {one["metadata"]["name"]: one for one in found}
        if target.live not in by_name:
            raise RefusedError(absent(target), 2)
        config = (by_name.get(target.config, {}).get("data") or {}).get("sidecar.yaml")
        return Stock(kept(by_name[target.live]), by_name.get(target.previous), config)

    async def history(self) -> list[Kept]:
        """The immutable copies, newest first. Raises KubeError."""
        found = await self._kubectl.read("configmaps", f"--selector={names.PINS}={configmaps.HISTORY}")
        copies = [copy for one in found if self._is_copy(one) and (copy := readable(one)) is not None]
        return sorted(copies, key=lambda one: (one.generation or 0, one.annotations.get(names.CHANGED_AT, "")))[::-1]

    def _is_copy(self, document: Mapping[str, Any]) -> bool:
        rest = document["metadata"]["name"].removeprefix(f"{self.target.live}-")
        number, _, digest = rest.partition("-")
        return (number.isdigit() or number == "unknown") and len(digest) == 8

    async def stamp(self, why: str | None) -> Stamp:
        """Who asks, as the cluster knows them; else as this machine does."""
        at = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        return Stamp(await self._user(), at, why)

    async def _user(self) -> str:
        try:
            query = "jsonpath={.status.userInfo.username}"
            if user := (await self._kubectl.ask("auth", "whoami", "-o", query)).strip():
                return user
        except KubeError as error:
            if error.reason in ("NoKubectl", "NoCluster", "Timeout"):
                raise
        try:  # an old kubectl or cluster
            query = "jsonpath={.contexts[0].context.user}"
            if user := (await self._kubectl.ask("config", "view", "--minify", "-o", query)).strip():
                return user
        except KubeError:
            pass
        try:
            return getpass.getuser()
        except (OSError, KeyError):  # in a container: a user without a name
            return f"uid {os.getuid()}"

    async def rehearse(self, stock: Stock, live: dict[str, Any]) -> None:
        """The API server's word on the write, without writing. Raises KubeError."""
        await self._replace(live, stock.live.metadata, "--dry-run=server")

    async def remember(self, stock: Stock) -> None:
        """Keep what was live as the previous file. Raises KubeError; `Conflict` where somebody was faster."""
        before = configmaps.previous(stock.live, self.target.previous, stock.previous)
        if stock.previous is None:
            await self._create(before)
        else:
            await self._replace(before, stock.previous["metadata"])

    async def swap(self, stock: Stock, live: dict[str, Any]) -> Kept:
        """Replace the live file; answers what is live now. Raises KubeError; `Conflict` where somebody was faster."""
        return kept(await self._replace(live, stock.live.metadata))

    async def keep(self, one: Kept) -> None:
        """An immutable copy, if there is none yet. Raises KubeError."""
        try:
            await self._kubectl.write(configmaps.history_copy(one, self.target.live), "create")
        except KubeError as error:
            if error.reason != "AlreadyExists":  # its name tells its content
                raise

    async def _replace(self, document: dict[str, Any], now: Mapping[str, Any], *flags: str) -> dict[str, Any]:
        """Write what is there already, on condition of its resource version. `now`: its metadata, fields' managers too.

        What Helm 4 applied is applied in its name: with fields of another manager the next `helm upgrade` that brings a
        newer file would fail. Otherwise not by `kubectl apply`, which leaves a copy in an annotation.
        """
        try:
            managers = ((one.get("manager"), one.get("operation")) for one in now.get("managedFields", ()))
            if (HELM, "Apply") in managers:
                words = ("apply", "--server-side", "--force-conflicts", *flags)
                return await self._kubectl.write(document, *words, manager=HELM)
            return await self._kubectl.write(document, "replace", *flags)
        except KubeError as error:
            raise _clearer(error, document) from None

    async def _create(self, document: dict[str, Any]) -> None:
        try:
            await self._kubectl.write(document, "create")
        except KubeError as error:
            if error.reason == "AlreadyExists":
                raise KubeError(str(error), "Conflict") from None
            raise _clearer(error, document) from None

    async def annotate(self, live: Kept, key: str, value: str) -> None:
        """One annotation of the live file, if that is still what it was. Raises KubeError."""
        version = f"--resource-version={live.metadata['resourceVersion']}"
        words = ["annotate", "configmap", self.target.live, f"{key}={value}", "--overwrite", version]
        await self._kubectl.ask(*words, f"--field-manager={MANAGER}")


def _clearer(error: KubeError, document: Mapping[str, Any]) -> KubeError:
    """Some refusals say more than the API server's words do."""
    name = document["metadata"]["name"]
    if error.reason in ("RequestEntityTooLarge", "Invalid") and "too long" in str(error).lower():
        return KubeError(f"the file does not fit into ConfigMap {name}: a ConfigMap holds 1 MiB", error.reason)
    if "immutable" in str(error):
        fix = "the live file must be a mutable ConfigMap"
        return KubeError(f"ConfigMap {name} is immutable: {fix}", error.reason)
    return error


def absent(target: Target) -> str:
    """Why there is nothing to work on."""
    where = f"in namespace {target.namespace}" if target.namespace else "in kubectl's current namespace"
    fix = "name the namespace (-n) or the ConfigMaps' common name (--name), or install the chart there"
    return f"there is no ConfigMap {target.live} {where}: {fix}"


def fleet_settings(text: str | None) -> Settings | None:
    """The fleet's sidecar.yaml, to check a pin file against; None where there is none, or it can't be read here.

    The pods have the files and variables that it names; this machine need not.
    """
    if text is None:
        return None
    try:
        document = parse(text.encode(), "sidecar.yaml")
        if not isinstance(document.data, dict):
            return None
        data = {**document.data, "providers": {k: _portable(v) for k, v in document.data["providers"].items()}}
        portable = Document("sidecar.yaml", text, data, is_json=False)
        convert(portable, SidecarFile)
        return compile_settings(portable, _ANYWHERE, Overrides(pins=_ANYWHERE), {})
    except (ConfigError, KeyError, AttributeError):
        return None


def _portable(provider: Any) -> Any:
    if not isinstance(provider, dict):
        return provider
    kept_keys = {key: value for key, value in provider.items() if key not in ("tls", "api_key_file")}
    return kept_keys | ({"api_key_env": "IN_A_FILE"} if "api_key_file" in provider else {})
