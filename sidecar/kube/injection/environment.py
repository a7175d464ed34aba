"""The environment of the app's containers: the SDK variables, and loopback in NO_PROXY.

Decides: which operations a container needs so that it finds the sidecar, without ever overriding what the app sets.
The SDK variables come as the first `envFrom` source: later sources and all of `env` win over it. NO_PROXY has to be
merged instead, since a proxy set by the app would otherwise be asked for 127.0.0.1.

Programs disagree on which spelling of NO_PROXY wins, and our source carries both. So where one is set in `env` and
the other is not, the other one takes its hosts: else ours would hide the app's list from half of the programs. What
the app's own `envFrom` sources say of NO_PROXY can't be seen here. kubelet fills them in before `env`, so a new entry
refers to them: `$(NO_PROXY),127.0.0.1`; our source sees to it that there is something to refer to.

A reference means what stands *before* an entry. So values are changed in place, a second spelling comes right behind
the first, and new ones come last.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from sidecar.kube.injection.podview import Container, EnvVar
from sidecar.kube.injection.template import Template

Op = dict[str, Any]
"""One operation of RFC 6902."""

_PROXIES = frozenset({"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"})
_SPELLINGS = ("NO_PROXY", "no_proxy")
_SEPARATORS = re.compile(r"[\s,]+")


def operations(container: Container, template: Template, path: str) -> Iterator[Op]:
    """What the container at the JSON pointer `path` lacks. Nothing, if it has it all."""
    ours = template.source.identity
    identities = [source.identity for source in container.env_from or ()]
    if not identities:
        yield {"op": "add", "path": f"{path}/envFrom", "value": [template.envFrom]}
    elif ours not in identities:
        yield {"op": "add", "path": f"{path}/envFrom/0", "value": template.envFrom}
    others = any(identity != ours for identity in identities)
    yield from _no_proxy(container.env, template.noProxy, path, others=others)


def _no_proxy(there: Sequence[EnvVar] | None, hosts: Sequence[str], path: str, *, others: bool) -> Iterator[Op]:
    """`others`: the app has `envFrom` sources of its own, which may hold a proxy and a NO_PROXY."""
    env = there or ()
    names = {entry.name or "" for entry in env}
    if not others and not any(name.upper() in _PROXIES or name in _SPELLINGS for name in names):
        return
    # Of entries with the same name, kubelet takes the last.
    at = {entry.name: index for index, entry in enumerate(env) if entry.name in _SPELLINGS}
    for index in at.values():
        entry = env[index]
        if entry.value_from is None and (wanted := merged(entry.value or "", hosts)) != entry.value:
            op = "add" if entry.value is None else "replace"
            yield {"op": op, "path": f"{path}/env/{index}/value", "value": wanted}
    if len(at) == 1:
        ((name, index),) = at.items()
        other = next(spelling for spelling in _SPELLINGS if spelling != name)
        own = f"$({name})" if env[index].value_from is not None else env[index].value or ""
        if others and own.strip() != "*":
            own = ",".join(filter(None, (f"$({other})", own)))
        yield {"op": "add", "path": f"{path}/env/{index + 1}", "value": {"name": other, "value": merged(own, hosts)}}
    elif not at:
        upper, lower = ("$(NO_PROXY),$(no_proxy)", "$(NO_PROXY)") if others else ("", "")
        if there is None:
            yield {"op": "add", "path": f"{path}/env", "value": []}
        for spelling, own in zip(_SPELLINGS, (upper, lower), strict=True):
            yield {"op": "add", "path": f"{path}/env/-", "value": {"name": spelling, "value": merged(own, hosts)}}


def merged(value: str, hosts: Sequence[str]) -> str:
    """A NO_PROXY value with the hosts that it lacks; `*` alone means all hosts, so nothing is lacking there."""
    if value.strip() == "*":
        return value
    there = {part.lower() for part in _SEPARATORS.split(value)}
    missing = ",".join(host for host in hosts if host.lower() not in there)
    if not missing:
        return value
    if not value.strip():
        return missing
    return f"{value}{'' if value.rstrip().endswith(',') else ','}{missing}"
